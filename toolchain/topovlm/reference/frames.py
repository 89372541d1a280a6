"""Short frame sequences: direction of motion, order of events."""

from __future__ import annotations

import numpy as np

from topovlm.reference.drawing import COLOURS, SHAPES, background, finish
from topovlm.reference.scenes import (
    ORDINALS,
    Question,
    Scene,
    Thing,
    choices,
    pick,
    place_thing,
    some,
    until_split,
    yes,
)

_MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def motion(rng: np.random.Generator, split: str) -> Scene:
    """Three frames: one thing crosses the picture, another stays where it is."""

    def draw() -> tuple[str, str, tuple[str, ...], str, int, int]:
        mover, idler = some(rng, SHAPES, 2)
        colours = tuple(pick(rng, tuple(COLOURS)) for _ in range(2))
        return mover, idler, colours, pick(rng, tuple(_MOVES)), int(rng.integers(3)), int(rng.integers(3))

    mover, idler, colours, way, lane, other = until_split(rng, split, draw)
    down, across = _MOVES[way]
    frames, regions = [], []
    for step in range(3):
        along = step if down + across > 0 else 2 - step
        place = along * 3 + lane if down else lane * 3 + along
        # The idler keeps clear of the mover's lane.
        still_lane = (lane + 1 + other % 2) % 3
        still_place = other * 3 + still_lane if down else still_lane * 3 + other
        image = background(rng)
        regions.append(place_thing(step, image, Thing(mover, colours[0], place, True), rng))
        regions.append(place_thing(step, image, Thing(idler, colours[1], still_place, True), rng))
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

    def draw() -> tuple[Thing, ...]:
        shapes, colours = some(rng, SHAPES, 3), some(rng, tuple(COLOURS), 3)
        return tuple(Thing(s, c, int(rng.integers(9)), True) for s, c in zip(shapes, colours, strict=True))

    things = until_split(rng, split, draw)
    frames, regions = [], []
    for step, thing in enumerate(things):
        image = background(rng)
        regions.append(place_thing(step, image, thing, rng))
        frames.append(finish(image, rng))
    asked = []
    for word, thing in zip(ORDINALS, things, strict=True):
        asked.append(Question("order", f"Which shape comes {word}?", thing.shape, chance=1 / 3))
        asked.append(Question("order", f"Which colour comes {word}?", thing.colour, chance=1 / 3))
        asked.append(Question("order", f"In which frame is the {thing.shape}?", word, chance=1 / 3))
    i, j = some(rng, range(3), 2)
    prompt = f"Does the {things[i].shape} come before the {things[j].shape}?"
    asked.append(Question("order", prompt, yes(i < j), chance=0.5))
    return Scene(frames, asked, regions)
