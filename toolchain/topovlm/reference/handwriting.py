"""Handwritten digits to read and to reckon with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from PIL import Image

from topovlm.reference.drawing import CELL, background, digit_pool, finish, glyph_mask, stamp, stamp_digit
from topovlm.reference.scenes import INK, ORDINALS, Question, Region, Scene, pick


def _write(
    image: Image.Image, rng: np.random.Generator, split: str, digit: int, corner: tuple[int, int]
) -> Region:
    pool = cast("Sequence[int]", digit_pool(split)[digit])
    index = int(pick(rng, pool))
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
    stamp(image, glyph_mask(sign), (21, top + 5), INK)
    result = a + b if sign == "+" else a - b
    asked = [
        Question("arithmetic", "What is the result?", str(result), "number", 1 / 19 if sign == "+" else 0.1),
        Question("arithmetic", "What is the larger number?", str(max(a, b)), "number", 0.1),
        Question("arithmetic", "Plus or minus?", "plus" if sign == "+" else "minus", chance=0.5),
    ]
    return Scene([finish(image, rng)], asked, regions)
