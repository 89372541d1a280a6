"""Still scenes: one to six things; colour, shape, position, counting, comparison, description."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from topovlm.reference.drawing import COLOURS, SHAPES, background, finish
from topovlm.reference.scenes import (
    PLACES,
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


def _draw_things(rng: np.random.Generator) -> tuple[Thing, ...]:
    # A small palette makes repeats, so that counting has answers above one.
    shapes = some(rng, SHAPES, pick(rng, (1, 2, 3, 6, 6)))
    colours = some(rng, tuple(COLOURS), pick(rng, (1, 2, 3, 6, 6)))
    places = sorted(some(rng, range(9), pick(rng, (1, 2, 3, 3, 4, 4, 5, 6))))
    return tuple(Thing(pick(rng, shapes), pick(rng, colours), p, bool(rng.integers(2))) for p in places)


def describe(things: tuple[Thing, ...]) -> str:
    """The reference description: things in reading order."""
    return ", ".join(f"{t.name} {PLACES[t.place]}" for t in things) + "."


def still(rng: np.random.Generator, split: str) -> Scene:
    """One to six things in a 3 x 3 grid."""
    things = until_split(rng, split, lambda: _draw_things(rng))
    image = background(rng)
    regions = [place_thing(0, image, thing, rng) for thing in things]
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
    asked = [choices(rng, q, answers[q.category]) if rng.random() < 0.35 else q for q in asked]
    asked.append(_count("How many objects are there?", len(things)))
    shape, colour = pick(rng, SHAPES), pick(rng, colours)
    for target in dict.fromkeys((shape, spot.shape, pick(rng, things).shape)):
        asked.append(_count(f"How many {_plural(target)} are there?", sum(t.shape == target for t in things)))
    for target in dict.fromkeys((colour, spot.colour, pick(rng, things).colour)):
        asked.append(_count(f"How many {target} objects are there?", sum(t.colour == target for t in things)))
    asked.extend(_comparisons(rng, _unique(things, lambda t: t.name)))
    if len(things) <= 4:
        asked.append(Question("describe", "Describe the picture.", describe(things), "facts", 0.0))
    return asked


def _plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def _count(prompt: str, count: int) -> Question:
    return Question("counting", prompt, str(count), "number", 1 / 7)


def _comparisons(rng: np.random.Generator, things: list[Thing]) -> list[Question]:
    asked = []
    for _ in range(min(2, len(things) - 1)):
        a, b = some(rng, things, 2)
        (row_a, col_a), (row_b, col_b) = divmod(a.place, 3), divmod(b.place, 3)
        if col_a != col_b:
            side = pick(rng, ("left", "right"))
            truth = col_a < col_b if side == "left" else col_a > col_b
            asked.append((f"Is the {a.name} {side} of the {b.name}?", yes(truth), 0.5))
        if row_a != row_b:
            side = pick(rng, ("above", "below"))
            truth = row_a < row_b if side == "above" else row_a > row_b
            asked.append((f"Is the {a.name} {side} the {b.name}?", yes(truth), 0.5))
        if a.large != b.large:
            asked.append((f"Which is larger, the {a.name} or the {b.name}?", (a if a.large else b).name, 0.5))
    return [Question("comparison", prompt, answer, chance=chance) for prompt, answer, chance in asked]
