"""Pixels of the reference benchmark: shapes, letters, handwritten digits on a 48 x 48 canvas.

Handwritten digits are scikit-learn's `load_digits` (UCI ML hand-written digits, 8 x 8 pixels); the
samples are divided among the splits by their index, so that no digit image is in two splits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 48
CELL = 16
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 225),
    "yellow": (235, 210, 40),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
# 5 x 7 bitmaps, one string of rows per glyph.
GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "+": "00000 00100 00100 11111 00100 00100 00000",
    "-": "00000 00000 00000 11111 00000 00000 00000",
}
# Which residues of (digit index mod 5) each split may use.
_DIGIT_RESIDUES = {"train": (2, 3, 4), "calibration": (1,), "test": (0,)}


def background(rng: np.random.Generator) -> Image.Image:
    """A light canvas with its own tint: no two pictures are the same to the pixel."""
    tint = tuple(int(v) for v in rng.integers(225, 256, 3))
    return Image.new("RGB", (CANVAS, CANVAS), tint)


def jittered(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """The named colour within +-18 levels per channel."""
    r, g, b = (int(np.clip(v + rng.integers(-18, 19), 0, 255)) for v in COLOURS[colour])
    return r, g, b


def draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    fill: tuple[int, int, int],
) -> None:
    """Draws one of `SHAPES` with the given half-width in pixels."""
    x, y = centre
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape == "square":
        side = radius * 0.86
        draw.rectangle((x - side, y - side, x + side, y + side), fill=fill)
    elif shape == "cross":
        arm = max(1.0, radius * 0.34)
        draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
        draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
    else:
        draw.polygon(_outline(shape, x, y, radius), fill=fill)


def _outline(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    if shape == "triangle":
        return [(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)]
    if shape == "diamond":
        return [(x, y - radius), (x + radius * 0.8, y), (x, y + radius), (x - radius * 0.8, y)]
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    reach = np.where(np.arange(10) % 2 == 0, radius * 1.1, radius * 0.45)
    return [(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(reach, angles, strict=True)]


@cache
def glyph_mask(glyph: str) -> np.ndarray:
    """bool [7, 5]."""
    return np.array([[c == "1" for c in row] for row in GLYPHS[glyph].split()])


def stamp(image: Image.Image, mask: np.ndarray, corner: tuple[int, int], ink: tuple[int, int, int]) -> None:
    """Inks the pixels of a bool [h, w] mask, its top left pixel at `corner` (x, y)."""
    image.paste(ink, corner, Image.fromarray((mask * 255).astype(np.uint8)))


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


@cache
def digit_pool(split: str) -> tuple[np.ndarray, ...]:
    """Per digit 0-9 the indices into the digits data that `split` may use."""
    _, target = _digits()
    index = np.arange(len(target))
    allowed = np.isin(index % 5, _DIGIT_RESIDUES[split])
    return tuple(index[allowed & (target == digit)] for digit in range(10))


def stamp_digit(image: Image.Image, index: int, corner: tuple[int, int], ink: tuple[int, int, int]) -> None:
    """One handwritten digit, 16 x 16 pixels (the 8 x 8 original, bilinear), blended as ink."""
    images, _ = _digits()
    grey = Image.fromarray(np.clip(images[index] * 16, 0, 255).astype(np.uint8))
    image.paste(ink, corner, grey.resize((CELL, CELL), Image.Resampling.BILINEAR))


def finish(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Sensor-like noise (sigma 4 levels); uint8 [48, 48, 3]."""
    noisy = np.asarray(image, dtype=np.float32) + rng.normal(0, 4, (CANVAS, CANVAS, 3)).astype(np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8)
