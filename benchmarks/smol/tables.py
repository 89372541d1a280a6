"""Bar and line charts of real numbers: stocks, employment, electricity, harvests, weather, cars, irises.

The numbers are rescaled to an axis from 0 to 10 with marks at 0, 5 and 10. Tables are divided among the
splits, so a held-out chart shows numbers of a table that was never seen.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.smol import assets
from benchmarks.smol.pictures import canvas, dark, finish, font, written
from topovlm.reference.drawing import COLOURS, jittered
from topovlm.reference.scenes import Question, Region, Scene, pick, some, yes

HELD_OUT = {
    "test": ("barley", "electricity", "temperatures", "wages"),
    "calibration": ("crimea", "gas", "wheat"),
}
_LETTERS = "ABCDE"
_BASE, _UNIT = 80, 7  # y of the axis, pixels per unit


def names(split: str) -> tuple[str, ...]:
    """Tables that a split may use."""
    if split in HELD_OUT:
        return HELD_OUT[split]
    taken = {name for held in HELD_OUT.values() for name in held}
    return tuple(sorted(set(assets.tables()) - taken))


def _values(rng: np.random.Generator, split: str, count: int) -> list[int]:
    """Consecutive or scattered numbers of one series, 1 to 10."""
    table = assets.tables()[pick(rng, names(split))]
    series = pick(rng, [numbers for _, numbers in sorted(table.items()) if len(numbers) >= 6])
    if rng.random() < 0.5:
        chosen = some(rng, series, count)
    else:
        step = int(rng.integers(1, max(2, len(series) // count)))
        first = int(rng.integers(max(1, len(series) - step * (count - 1))))
        chosen = series[first::step][:count]
    low, high = min(chosen), max(chosen)
    floor = pick(rng, (0.0, 0.0, 2 * low - high)) if high > low else 0.0
    top = pick(rng, (10, 10, 9, 8, 7))
    return [max(1, round(top * (value - floor) / ((high - floor) or 1))) for value in chosen]


def _axes(image: Image.Image, face: str) -> ImageDraw.ImageDraw:
    draw = ImageDraw.Draw(image)
    for value in (0, 5, 10):
        y = _BASE - value * _UNIT
        draw.line((15, y, 94, y), fill=(175, 175, 175) if value else (30, 30, 30))
        written(draw, (7, y), str(value), font(face, 9))
    return draw


def chart(rng: np.random.Generator, split: str) -> Scene:
    """Three to five lettered bars, or a line through as many lettered points."""
    count = pick(rng, (3, 4, 4, 5))
    values = _values(rng, split, count)
    kind = pick(rng, ("bar", "bar", "point"))
    face = pick(rng, ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif"))
    image = canvas(rng)
    draw = _axes(image, face)
    middles = [15 + (slot + 0.5) * 79 / count for slot in range(count)]
    tops = [_BASE - value * _UNIT for value in values]
    one = jittered(pick(rng, tuple(COLOURS)), rng)
    many = [jittered(colour, rng) for colour in some(rng, tuple(COLOURS), count)]
    inks = pick(rng, ([one] * count, many))
    if kind == "point":
        draw.line(list(zip(middles, tops, strict=True)), fill=dark(rng), width=2)
    regions = []
    for slot, (x, y, ink) in enumerate(zip(middles, tops, inks, strict=True)):
        letter, half = _LETTERS[slot], 32 / count
        labels = {"height": values[slot], "mark": slot}
        regions.append(Region(0, (x - half, 8, x + half, 96), labels))
        if kind == "bar":
            draw.rectangle((x - 26 / count, y, x + 26 / count, _BASE - 1), fill=ink)
        else:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=ink)
        written(draw, (x, 88), letter, font(face, 11))
    return Scene([finish(image, rng)], _questions(rng, values, kind), regions)


def _questions(rng: np.random.Generator, values: list[int], kind: str) -> list[Question]:
    count = len(values)
    asked = []
    for letter, value in zip(_LETTERS, values, strict=False):
        prompt = f"What is the value of {kind} {letter}?"
        asked.append(Question("table_value", prompt, str(value), "relaxed", 0.1))
    for word, best in (("highest", max(values)), ("lowest", min(values))):
        if values.count(best) == 1:
            letter = _LETTERS[values.index(best)]
            asked.append(
                Question("table_extreme", f"Which {kind} is the {word}?", letter, "letter", 1 / count)
            )
    above = sum(value > 5 for value in values)
    if 5 not in values:
        asked.append(
            Question("table_above", f"How many {kind}s are above 5?", str(above), "number", 1 / (count + 1))
        )
    i, j = some(rng, range(count), 2)
    if values[i] != values[j]:
        prompt = f"Is {kind} {_LETTERS[i]} higher than {kind} {_LETTERS[j]}?"
        asked.append(Question("table_compare", prompt, yes(values[i] > values[j]), chance=0.5))
    return asked
