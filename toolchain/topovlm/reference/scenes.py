"""Pictures of the reference benchmark with every question that can be asked of them.

A `Scene` is a pure function of a random generator and a split. Its discrete content (which shapes,
colours, places, values) is hashed, and the hash decides the split it may appear in: a held-out
question is about a picture whose content was never trained on, not merely about fresh noise.
Arithmetic and digit reading are held out by their handwriting instead (see `drawing.digit_pool`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from topovlm.reference.drawing import (
    CELL,
    COLOURS,
    SHAPES,
    background,
    digit_pool,
    draw_shape,
    finish,
    glyph_mask,
    jittered,
    stamp,
    stamp_digit,
)

PLACES = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
SPLITS = ("train", "calibration", "test")
LETTERS = ("A", "B", "C", "D")
ORDINALS = ("first", "second", "third")
_INK = (30, 30, 30)


@dataclass(frozen=True)
class Question:
    """One question; `chance` is the probability of a right guess among the answers it admits."""

    family: str
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


def pick(rng: np.random.Generator, options):
    """One element of a sequence, as itself (numpy would turn tuples and strings into arrays)."""
    return options[int(rng.integers(len(options)))]


def _some(rng: np.random.Generator, options, count: int) -> list:
    return [options[i] for i in rng.choice(len(options), count, replace=False)]


def _until_split(rng: np.random.Generator, split: str, draw: Callable[[], tuple]) -> tuple:
    while True:
        content = draw()
        if split_of(content) == split:
            return content


def choices(rng: np.random.Generator, question: Question, answers: tuple[str, ...]) -> Question:
    """The multiple-choice form: four options, the answer is a letter."""
    others = _some(rng, [a for a in answers if a != question.answer], 3)
    options = [question.answer, *others]
    order = rng.permutation(4)
    listed = " ".join(f"{letter}. {options[i]}" for letter, i in zip(LETTERS, order, strict=True))
    letter = LETTERS[int(np.flatnonzero(order == 0)[0])]
    return Question(question.family, f"{question.prompt} {listed}", letter, "letter", 0.25)


def _place_thing(frame: int, image: Image.Image, thing: Thing, rng: np.random.Generator) -> Region:
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


# --- still scenes: colour, shape, position, counting, comparison, describe -------------------------


def _draw_things(rng: np.random.Generator) -> tuple[Thing, ...]:
    # A small palette makes repeats, so that counting has answers above one.
    shapes = _some(rng, SHAPES, pick(rng, (1, 2, 3, 6, 6)))
    colours = _some(rng, tuple(COLOURS), pick(rng, (1, 2, 3, 6, 6)))
    places = sorted(_some(rng, range(9), pick(rng, (1, 2, 3, 3, 4, 4, 5, 6))))
    return tuple(Thing(pick(rng, shapes), pick(rng, colours), p, bool(rng.integers(2))) for p in places)


def describe(things: tuple[Thing, ...]) -> str:
    """The reference description: things in reading order."""
    return ", ".join(f"{t.name} {PLACES[t.place]}" for t in things) + "."


def still(rng: np.random.Generator, split: str) -> Scene:
    """One to six things in a 3 x 3 grid."""
    things = _until_split(rng, split, lambda: _draw_things(rng))
    image = background(rng)
    regions = [_place_thing(0, image, thing, rng) for thing in things]
    return Scene([finish(image, rng)], _still_questions(rng, things), regions)


def _unique(things: tuple[Thing, ...], key: Callable[[Thing], str]) -> list[Thing]:
    seen = [key(t) for t in things]
    return [t for t in things if seen.count(key(t)) == 1]


def _still_questions(rng: np.random.Generator, things: tuple[Thing, ...]) -> list[Question]:
    asked: list[Question] = []
    colours, sixth, ninth = tuple(COLOURS), 1 / 6, 1 / 9
    for thing in _unique(things, lambda t: t.shape):
        asked.append(Question("colour", f"What colour is the {thing.shape}?", thing.colour, chance=sixth))
    for thing in _unique(things, lambda t: t.colour):
        asked.append(
            Question("shape", f"What shape is the {thing.colour} object?", thing.shape, chance=sixth)
        )
    for thing in _unique(things, lambda t: t.name):
        asked.append(Question("position", f"Where is the {thing.name}?", PLACES[thing.place], chance=ninth))
    spot = pick(rng, things)
    at = f"at the {PLACES[spot.place]}"
    asked.append(Question("colour", f"What colour is the object {at}?", spot.colour, chance=sixth))
    asked.append(Question("shape", f"What shape is {at}?", spot.shape, chance=sixth))
    answers = {"colour": colours, "shape": SHAPES, "position": PLACES}
    asked = [choices(rng, q, answers[q.family]) if rng.random() < 0.35 else q for q in asked]
    asked.append(_count("How many objects are there?", len(things)))
    shape, colour = pick(rng, SHAPES), pick(rng, colours)
    for target in {shape, spot.shape, pick(rng, things).shape}:
        asked.append(_count(f"How many {_plural(target)} are there?", sum(t.shape == target for t in things)))
    for target in {colour, spot.colour, pick(rng, things).colour}:
        asked.append(_count(f"How many {target} objects are there?", sum(t.colour == target for t in things)))
    asked.extend(_comparisons(rng, _unique(things, lambda t: t.name)))
    if len(things) <= 4:
        asked.append(Question("describe", "Describe the picture.", describe(things), "facts", 0.0))
    return asked


def _plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def _count(prompt: str, count: int) -> Question:
    return Question("counting", prompt, str(count), "number", 1 / 7)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _comparisons(rng: np.random.Generator, things: list[Thing]) -> list[Question]:
    asked = []
    for _ in range(min(2, len(things) - 1)):
        a, b = _some(rng, things, 2)
        (row_a, col_a), (row_b, col_b) = divmod(a.place, 3), divmod(b.place, 3)
        if col_a != col_b:
            side = pick(rng, ("left", "right"))
            truth = col_a < col_b if side == "left" else col_a > col_b
            asked.append((f"Is the {a.name} {side} of the {b.name}?", _yes(truth), 0.5))
        if row_a != row_b:
            side = pick(rng, ("above", "below"))
            truth = row_a < row_b if side == "above" else row_a > row_b
            asked.append((f"Is the {a.name} {side} the {b.name}?", _yes(truth), 0.5))
        if a.large != b.large:
            asked.append((f"Which is larger, the {a.name} or the {b.name}?", (a if a.large else b).name, 0.5))
    return [Question("comparison", prompt, answer, chance=chance) for prompt, answer, chance in asked]


# --- charts ---------------------------------------------------------------------------------------

_UNIT = 4  # pixels per unit of value
_BASE = 44  # y of the axis


def _axes(image: Image.Image, rng: np.random.Generator) -> ImageDraw.ImageDraw:
    draw = ImageDraw.Draw(image)
    shade = int(rng.integers(180, 215))
    for value in (3, 6, 9):
        draw.line((2, _BASE - value * _UNIT, 47, _BASE - value * _UNIT), fill=(shade, shade, shade))
    draw.line((2, _BASE, 47, _BASE), fill=_INK)
    draw.line((2, 4, 2, _BASE), fill=_INK)
    return draw


def _column(slot: int) -> float:
    return 8 + slot * 11


def bar_chart(rng: np.random.Generator, split: str) -> Scene:
    """Four bars of different colours, values 1 to 9, gridlines at 3, 6, 9."""
    colours, values = _until_split(
        rng,
        split,
        lambda: (tuple(_some(rng, tuple(COLOURS), 4)), tuple(int(v) for v in rng.integers(1, 10, 4))),
    )
    image = background(rng)
    draw = _axes(image, rng)
    regions = []
    for slot, (colour, value) in enumerate(zip(colours, values, strict=True)):
        x = _column(slot)
        draw.rectangle((x - 3, _BASE - value * _UNIT, x + 4, _BASE - 1), fill=jittered(colour, rng))
        labels = {"colour": list(COLOURS).index(colour), "value": value}
        regions.append(Region(0, (x - 4, 0, x + 5, 48), labels))
    asked = [Question("bar_chart", f"What is the value of the {c} bar?", str(v), "relaxed", 1 / 9)
             for c, v in zip(colours, values, strict=True)]  # fmt: skip
    for word, best in (("tallest", max(values)), ("shortest", min(values))):
        if values.count(best) == 1:
            asked.append(Question("bar_chart", f"Which bar is the {word}?", colours[values.index(best)]))
    i, j = _some(rng, range(4), 2)
    if values[i] != values[j]:
        prompt = f"Is the {colours[i]} bar taller than the {colours[j]} bar?"
        asked.append(Question("bar_chart", prompt, _yes(values[i] > values[j]), chance=0.5))
    return Scene([finish(image, rng)], asked, regions)


def line_chart(rng: np.random.Generator, split: str) -> Scene:
    """One line through four points, values 1 to 9."""
    colour, values = _until_split(
        rng, split, lambda: (pick(rng, tuple(COLOURS)), tuple(int(v) for v in rng.integers(1, 10, 4)))
    )
    image = background(rng)
    draw = _axes(image, rng)
    ink = jittered(colour, rng)
    points = [(_column(slot), _BASE - value * _UNIT) for slot, value in enumerate(values)]
    draw.line(points, fill=ink, width=1)
    regions = []
    for (x, y), value in zip(points, values, strict=True):
        draw.rectangle((x - 2, y - 2, x + 2, y + 2), fill=ink)
        labels = {"colour": list(COLOURS).index(colour), "value": value}
        regions.append(Region(0, (x - 4, 0, x + 5, 48), labels))
    asked = [Question("line_chart", f"What is the value at point {i + 1}?", str(v), "relaxed", 1 / 9)
             for i, v in enumerate(values)]  # fmt: skip
    for word, best in (("highest", max(values)), ("lowest", min(values))):
        if values.count(best) == 1:
            asked.append(
                Question(
                    "line_chart", f"At which point is the line {word}?", str(values.index(best) + 1), "number"
                )
            )
    i = int(rng.integers(3))
    if values[i] != values[i + 1]:
        prompt = f"Does the line rise from point {i + 1} to point {i + 2}?"
        asked.append(Question("line_chart", prompt, _yes(values[i + 1] > values[i]), chance=0.5))
    return Scene([finish(image, rng)], asked, regions)


# --- labelled diagrams ------------------------------------------------------------------------------

_CORNERS = ((12, 12), (36, 12), (36, 36), (12, 36))  # clockwise


def _arrow(draw: ImageDraw.ImageDraw, start: tuple[int, int], end: tuple[int, int]) -> None:
    mid = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    step = (np.sign(end[0] - start[0]), np.sign(end[1] - start[1]))
    across = (step[1], step[0])
    tail = (mid[0] - 4 * step[0], mid[1] - 4 * step[1])
    tip = (mid[0] + 4 * step[0], mid[1] + 4 * step[1])
    draw.line((*tail, *tip), fill=_INK)
    barbs = [(mid[0] + s * 3 * across[0], mid[1] + s * 3 * across[1]) for s in (-1, 1)]
    draw.polygon([tip, *barbs], fill=_INK)


def diagram(rng: np.random.Generator, split: str) -> Scene:
    """Four lettered parts in a ring, each pointing to one neighbour."""
    shapes, colours, letters, clockwise = _until_split(
        rng,
        split,
        lambda: (
            tuple(_some(rng, SHAPES, 4)),
            tuple(_some(rng, tuple(COLOURS), 4)),
            tuple(_some(rng, LETTERS, 4)),
            bool(rng.integers(2)),
        ),
    )
    image = background(rng)
    draw = ImageDraw.Draw(image)
    regions = []
    for slot, (x, y) in enumerate(_CORNERS):
        draw_shape(draw, shapes[slot], (x - 0.5, y - 0.5), 7, jittered(colours[slot], rng))
        draw.rectangle((x - 4, y - 5, x + 3, y + 4), fill=(250, 250, 250))
        stamp(image, glyph_mask(letters[slot]), (x - 3, y - 4), (0, 0, 0))
        labels = {
            "colour": list(COLOURS).index(colours[slot]),
            "shape": SHAPES.index(shapes[slot]),
            "glyph": 10 + LETTERS.index(letters[slot]),
        }
        regions.append(Region(0, (x - 7, y - 7, x + 7, y + 7), labels))
    target = [(slot + (1 if clockwise else 3)) % 4 for slot in range(4)]
    for slot in range(4):
        _arrow(draw, _CORNERS[slot], _CORNERS[target[slot]])
    asked = []
    for slot, letter in enumerate(letters):
        asked.append(Question("diagram", f"Which letter marks the {shapes[slot]}?", letter, "letter"))
        asked.append(Question("diagram", f"Which letter marks the {colours[slot]} part?", letter, "letter"))
        asked.append(Question("diagram", f"What colour is part {letter}?", colours[slot], chance=0.25))
        asked.append(Question("diagram", f"What shape is part {letter}?", shapes[slot], chance=0.25))
        asked.append(
            Question("diagram", f"Which part does {letter} point to?", letters[target[slot]], "letter", 1 / 3)
        )
    return Scene([finish(image, rng)], asked, regions)


# --- handwritten digits -----------------------------------------------------------------------------


def _write(
    image: Image.Image, rng: np.random.Generator, split: str, digit: int, corner: tuple[int, int]
) -> Region:
    index = int(pick(rng, digit_pool(split)[digit]))
    ink = tuple(int(v) for v in rng.integers(0, 90, 3))
    stamp_digit(image, index, corner, ink)  # type: ignore[arg-type]
    x, y = corner
    return Region(0, (x, y, x + CELL, y + CELL), {"glyph": digit})


def digits(rng: np.random.Generator, split: str) -> Scene:
    """Three handwritten digits in a row."""
    values = tuple(int(v) for v in rng.integers(0, 10, 3))
    image = background(rng)
    top = int(rng.integers(14, 19))
    regions = [_write(image, rng, split, v, (slot * CELL, top)) for slot, v in enumerate(values)]
    asked = [Question("digits", f"What is the {word} digit?", str(v), "number", 0.1)
             for word, v in zip(ORDINALS, values, strict=True)]  # fmt: skip
    asked.append(Question("digits", "Which number is written?", "".join(map(str, values)), "number", 0.001))
    asked.append(Question("digits", "What is the largest digit?", str(max(values)), "number", 0.1))
    return Scene([finish(image, rng)], asked, regions)


def arithmetic(rng: np.random.Generator, split: str) -> Scene:
    """A handwritten sum or difference of two digits; never negative."""
    a, b = (int(v) for v in rng.integers(0, 10, 2))
    sign = pick(rng, ("+", "-"))
    if sign == "-":
        a, b = max(a, b), min(a, b)
    image = background(rng)
    top = int(rng.integers(14, 19))
    regions = [_write(image, rng, split, a, (0, top)), _write(image, rng, split, b, (32, top))]
    stamp(image, glyph_mask(sign), (21, top + 5), _INK)
    result = a + b if sign == "+" else a - b
    asked = [
        Question("arithmetic", "What is the result?", str(result), "number", 1 / 19 if sign == "+" else 0.1),
        Question("arithmetic", "What is the larger number?", str(max(a, b)), "number", 0.1),
        Question("arithmetic", "Plus or minus?", "plus" if sign == "+" else "minus", chance=0.5),
    ]
    return Scene([finish(image, rng)], asked, regions)


# --- short frame sequences ------------------------------------------------------------------------

_MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def motion(rng: np.random.Generator, split: str) -> Scene:
    """Three frames: one thing crosses the picture, another stays where it is."""

    def draw() -> tuple:
        mover, idler = _some(rng, SHAPES, 2)
        colours = tuple(pick(rng, tuple(COLOURS)) for _ in range(2))
        return mover, idler, colours, pick(rng, tuple(_MOVES)), int(rng.integers(3)), int(rng.integers(3))

    mover, idler, colours, way, lane, other = _until_split(rng, split, draw)
    down, across = _MOVES[way]
    frames, regions = [], []
    for step in range(3):
        along = step if down + across > 0 else 2 - step
        place = along * 3 + lane if down else lane * 3 + along
        # The idler keeps clear of the mover's lane.
        still_lane = (lane + 1 + other % 2) % 3
        still_place = other * 3 + still_lane if down else still_lane * 3 + other
        image = background(rng)
        regions.append(_place_thing(step, image, Thing(mover, colours[0], place, True), rng))
        regions.append(_place_thing(step, image, Thing(idler, colours[1], still_place, True), rng))
        frames.append(finish(image, rng))
    asked = [
        Question("motion", f"Which way does the {mover} move?", way),
        Question("motion", "Which way is the motion?", way),
        Question("motion", "Which shape moves?", mover, chance=0.5),
        Question("motion", "Which shape stays?", idler, chance=0.5),
    ]
    asked[0] = choices(rng, asked[0], tuple(_MOVES)) if rng.random() < 0.4 else asked[0]
    return Scene(frames, asked, regions)


def order(rng: np.random.Generator, split: str) -> Scene:
    """Three frames with one thing each."""

    def draw() -> tuple:
        shapes, colours = _some(rng, SHAPES, 3), _some(rng, tuple(COLOURS), 3)
        return tuple(Thing(s, c, int(rng.integers(9)), True) for s, c in zip(shapes, colours, strict=True))

    things = _until_split(rng, split, draw)
    frames, regions = [], []
    for step, thing in enumerate(things):
        image = background(rng)
        regions.append(_place_thing(step, image, thing, rng))
        frames.append(finish(image, rng))
    asked = []
    for word, thing in zip(ORDINALS, things, strict=True):
        asked.append(Question("order", f"Which shape comes {word}?", thing.shape, chance=1 / 3))
        asked.append(Question("order", f"Which colour comes {word}?", thing.colour, chance=1 / 3))
        asked.append(Question("order", f"In which frame is the {thing.shape}?", word, chance=1 / 3))
    i, j = _some(rng, range(3), 2)
    prompt = f"Does the {things[i].shape} come before the {things[j].shape}?"
    asked.append(Question("order", prompt, _yes(i < j), chance=0.5))
    return Scene(frames, asked, regions)


MAKERS: dict[str, Callable[[np.random.Generator, str], Scene]] = {
    "still": still,
    "bar_chart": bar_chart,
    "line_chart": line_chart,
    "diagram": diagram,
    "digits": digits,
    "arithmetic": arithmetic,
    "motion": motion,
    "order": order,
}
# Which maker's pictures a family's questions are asked of.
FAMILIES: dict[str, str] = {
    "diagram": "diagram",
    "bar_chart": "bar_chart",
    "line_chart": "line_chart",
    "counting": "still",
    "colour": "still",
    "shape": "still",
    "position": "still",
    "comparison": "still",
    "describe": "still",
    "digits": "digits",
    "arithmetic": "arithmetic",
    "motion": "motion",
    "order": "order",
}
