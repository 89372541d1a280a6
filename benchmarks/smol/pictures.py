"""What the makers of real pictures share: a canvas, names of colours, objects divided among the splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from topovlm.reference.scenes import LETTERS, Question, pick, some

SIDE = 96  # pixels of what the tower sees
PLACES = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
# Several tones bear one name.
_TONES = {
    "red": ((206, 17, 38), (230, 50, 50), (160, 20, 30)),
    "orange": ((245, 140, 30), (255, 103, 31)),
    "yellow": ((252, 209, 22), (255, 230, 90), (235, 200, 60)),
    "green": ((0, 122, 61), (60, 170, 70), (0, 90, 50), (120, 190, 80)),
    "blue": ((0, 56, 168), (0, 30, 100), (80, 150, 225), (120, 180, 240), (60, 100, 180)),
    "purple": ((120, 50, 150), (160, 110, 190)),
    "brown": ((120, 75, 45), (90, 55, 35), (160, 110, 75)),
    "black": ((10, 10, 10), (40, 40, 40)),
    "white": ((250, 250, 250), (230, 230, 230)),
    "grey": ((128, 128, 128), (170, 175, 180), (90, 95, 100)),
}
COLOURS = tuple(_TONES)
_SHARES = (0.25, 0.375)  # of the objects, in the order of their hashes: test, calibration, the rest trains


def canvas(rng: np.random.Generator) -> Image.Image:
    """A light square with its own tint."""
    return Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in rng.integers(222, 256, 3)))


def finish(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Sensor-like noise (sigma 4 levels); uint8 [96, 96, 3]."""
    noisy = np.asarray(image, dtype=np.float32) + rng.normal(0, 4, (SIDE, SIDE, 3)).astype(np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def split_among(objects: Sequence[str], split: str) -> list[int]:
    """Indices of the objects that a split may use: by the order of their hashes, no object in two splits."""
    ordered = sorted(range(len(objects)), key=lambda i: hashlib.sha256(objects[i].encode()).digest())
    first, second = (round(share * len(ordered)) for share in _SHARES)
    parts = {"test": ordered[:first], "calibration": ordered[first:second], "train": ordered[second:]}
    return sorted(parts[split])


@cache
def _prototypes() -> tuple[np.ndarray, np.ndarray]:
    tones = [(list(COLOURS).index(name), tone) for name, many in _TONES.items() for tone in many]
    return np.array([tone for _, tone in tones], float), np.array([number for number, _ in tones])


def colour_shares(pixels: np.ndarray) -> dict[str, float]:
    """Share of each named colour among pixels [N, 3], the nearest tone names a pixel."""
    tones, names = _prototypes()
    nearest = names[((pixels[:, None].astype(float) - tones[None]) ** 2).sum(-1).argmin(1)]
    counts = np.bincount(nearest, minlength=len(COLOURS)) / max(1, len(nearest))
    return dict(zip(COLOURS, counts.tolist(), strict=True))


def lettered(
    rng: np.random.Generator, category: str, prompt: str, answer: str, others: Sequence[str]
) -> Question:
    """Four options, the answer is a letter; `others` are wrong."""
    options = [answer, *some(rng, [other for other in others if other != answer], 3)]
    order = rng.permutation(4)
    listed = " ".join(f"{letter}. {options[i]}" for letter, i in zip(LETTERS, order, strict=True))
    return Question(
        category, f"{prompt} {listed}", LETTERS[int(np.flatnonzero(order == 0)[0])], "letter", 0.25
    )


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of the DejaVu fonts that matplotlib brings along."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def written(draw: ImageDraw.ImageDraw, middle: tuple[float, float], text: str, face: ImageFont.FreeTypeFont,
            ink: tuple[int, int, int] = (20, 20, 20)) -> None:  # fmt: skip
    """Text around a point (x, y)."""
    draw.text(middle, text, font=face, fill=ink, anchor="mm")


def dark(rng: np.random.Generator) -> tuple[int, int, int]:
    """An ink that can be read on a light canvas."""
    ink = [int(v) for v in rng.integers(0, 90, 3)]
    ink[int(rng.integers(3))] += pick(rng, (0, 60, 90))
    return ink[0], ink[1], ink[2]
