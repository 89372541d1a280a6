"""Labelled diagrams: lettered parts in a ring of arrows."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from topovlm.reference.drawing import (
    COLOURS,
    SHAPES,
    background,
    draw_shape,
    finish,
    glyph_mask,
    jittered,
    stamp,
)
from topovlm.reference.scenes import INK, LETTERS, Question, Region, Scene, some, until_split

_CORNERS = ((12, 12), (36, 12), (36, 36), (12, 36))  # clockwise


def _arrow(draw: ImageDraw.ImageDraw, start: tuple[int, int], end: tuple[int, int]) -> None:
    mid = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    step = (np.sign(end[0] - start[0]), np.sign(end[1] - start[1]))
    across = (step[1], step[0])
    tail = (mid[0] - 4 * step[0], mid[1] - 4 * step[1])
    tip = (mid[0] + 4 * step[0], mid[1] + 4 * step[1])
    draw.line((*tail, *tip), fill=INK)
    barbs = [(mid[0] + s * 3 * across[0], mid[1] + s * 3 * across[1]) for s in (-1, 1)]
    draw.polygon([tip, *barbs], fill=INK)


def diagram(rng: np.random.Generator, split: str) -> Scene:
    """Four lettered parts in a ring, each pointing to one neighbour."""
    shapes, colours, letters, clockwise = until_split(
        rng,
        split,
        lambda: (
            tuple(some(rng, SHAPES, 4)),
            tuple(some(rng, tuple(COLOURS), 4)),
            tuple(some(rng, LETTERS, 4)),
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
