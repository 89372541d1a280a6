"""Pictures of the reference benchmark with every question that can be asked of them.

A `Scene` is a pure function of a random generator and a split. Its discrete content (which shapes,
colours, places, values) is hashed, and the hash decides the split it may appear in: a held-out
question is about a picture whose content was never trained on, not merely about fresh noise.
Arithmetic and digit reading are held out by their handwriting instead (see `drawing.digit_pool`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from topovlm.reference.drawing import (
    CELL,
    COLOURS,
    SHAPES,
    draw_shape,
    jittered,
)

T = TypeVar("T")

PLACES = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
SPLITS = ("train", "calibration", "test")
LETTERS = ("A", "B", "C", "D")
ORDINALS = ("first", "second", "third")
INK = (30, 30, 30)


@dataclass(frozen=True)
class Question:
    """One question; `chance` is the probability of a right guess among the answers it admits."""

    category: str
    prompt: str
    answer: str
    metric: str = "exact"
    chance: float = 0.25


@dataclass(frozen=True)
class Region:
    """What a box (x0, y0, x1, y1 in pixels) of one frame shows; used to pretrain the vision tower."""

    frame: int
    box: tuple[float, float, float, float]
    labels: dict[str, int]


@dataclass
class Scene:
    frames: list[np.ndarray]
    questions: list[Question]
    regions: list[Region] = field(default_factory=list)


@dataclass(frozen=True)
class Thing:
    shape: str
    colour: str
    place: int
    large: bool

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


def split_of(content: object) -> str:
    """Which split a discrete content belongs to: 1/8 test, 1/8 calibration, the rest training."""
    bucket = hashlib.sha256(repr(content).encode()).digest()[0] % 8
    return {0: "test", 1: "calibration"}.get(bucket, "train")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One element of a sequence, as itself (numpy would turn tuples and strings into arrays)."""
    return options[int(rng.integers(len(options)))]


def some(rng: np.random.Generator, options: Sequence[T], count: int) -> list[T]:
    """`count` different elements, each as itself."""
    return [options[i] for i in rng.choice(len(options), count, replace=False)]


def until_split(rng: np.random.Generator, split: str, draw: Callable[[], T]) -> T:
    """Draws contents until one belongs to the split."""
    while True:
        content = draw()
        if split_of(content) == split:
            return content


def choices(rng: np.random.Generator, question: Question, answers: tuple[str, ...]) -> Question:
    """The multiple-choice form: four options, the answer is a letter."""
    others = some(rng, [a for a in answers if a != question.answer], 3)
    options = [question.answer, *others]
    order = rng.permutation(4)
    listed = " ".join(f"{letter}. {options[i]}" for letter, i in zip(LETTERS, order, strict=True))
    letter = LETTERS[int(np.flatnonzero(order == 0)[0])]
    return Question(question.category, f"{question.prompt} {listed}", letter, "letter", 0.25)


def place_thing(frame: int, image: Image.Image, thing: Thing, rng: np.random.Generator) -> Region:
    """Draws a thing near the middle of its cell; returns what is where."""
    row, col = divmod(thing.place, 3)
    radius = 6.5 if thing.large else 4.0
    x = col * CELL + CELL / 2 - 0.5 + rng.uniform(-1, 1)
    y = row * CELL + CELL / 2 - 0.5 + rng.uniform(-1, 1)
    draw_shape(ImageDraw.Draw(image), thing.shape, (x, y), radius, jittered(thing.colour, rng))
    labels = {
        "colour": list(COLOURS).index(thing.colour),
        "shape": SHAPES.index(thing.shape),
        "size": int(thing.large),
    }
    return Region(frame, (x - radius, y - radius, x + radius, y + radius), labels)


def yes(value: bool) -> str:
    """The answer to a yes-or-no question."""
    return "yes" if value else "no"
