"""Bar and line charts with values from 1 to 9."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from topovlm.reference.drawing import COLOURS, background, finish, jittered
from topovlm.reference.scenes import INK, Question, Region, Scene, pick, some, until_split, yes

_UNIT = 4  # pixels per unit of value
_BASE = 44  # y of the axis


def _axes(image: Image.Image, rng: np.random.Generator) -> ImageDraw.ImageDraw:
    draw = ImageDraw.Draw(image)
    shade = int(rng.integers(180, 215))
    for value in (3, 6, 9):
        draw.line((2, _BASE - value * _UNIT, 47, _BASE - value * _UNIT), fill=(shade, shade, shade))
    draw.line((2, _BASE, 47, _BASE), fill=INK)
    draw.line((2, 4, 2, _BASE), fill=INK)
    return draw


def _column(slot: int) -> float:
    return 8 + slot * 11


def bar_chart(rng: np.random.Generator, split: str) -> Scene:
    """Four bars of different colours, values 1 to 9, gridlines at 3, 6, 9."""
    colours, values = until_split(
        rng,
        split,
        lambda: (tuple(some(rng, tuple(COLOURS), 4)), tuple(int(v) for v in rng.integers(1, 10, 4))),
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
    i, j = some(rng, range(4), 2)
    if values[i] != values[j]:
        prompt = f"Is the {colours[i]} bar taller than the {colours[j]} bar?"
        asked.append(Question("bar_chart", prompt, yes(values[i] > values[j]), chance=0.5))
    return Scene([finish(image, rng)], asked, regions)


def line_chart(rng: np.random.Generator, split: str) -> Scene:
    """One line through four points, values 1 to 9."""
    colour, values = until_split(
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
        asked.append(Question("line_chart", prompt, yes(values[i + 1] > values[i]), chance=0.5))
    return Scene([finish(image, rng)], asked, regions)
