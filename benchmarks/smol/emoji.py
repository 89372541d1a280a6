"""Named emoji: what kind of thing one is, how many there are, which one is the odd one out, where one is.

No emoji is in two splits: kinds must be recognised on things that were never seen.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from benchmarks.smol.assets import index, tile
from benchmarks.smol.pictures import PLACES, SIDE, canvas, finish, lettered, split_among
from topovlm.reference.scenes import Question, Region, Scene, pick, some, yes

KINDS = (
    "animal",
    "food",
    "face",
    "vehicle",
    "person",
    "clothes",
    "hand",
    "clock",
    "plant",
    "building",
    "heart",
)
_CORNERS = ("top left", "top right", "bottom left", "bottom right")


@cache
def pool(split: str, kind: str) -> tuple[int, ...]:
    """Numbers of the emoji of a kind that a split may use."""
    named = [(number, name) for number, (_, name, of) in enumerate(index()["emoji"]) if of == kind]
    return tuple(named[i][0] for i in split_among([name for _, name in named], split))


def _any(rng: np.random.Generator, split: str) -> tuple[int, str]:
    """(number, kind): kinds with many emoji come a little more often."""
    sizes = np.array([len(pool(split, kind)) for kind in KINDS], float) ** 0.5
    kind = KINDS[int(rng.choice(len(KINDS), p=sizes / sizes.sum()))]
    return pick(rng, pool(split, kind)), kind


def _stick(image: Image.Image, number: int, middle: tuple[float, float], size: int, mirrored: bool) -> Region:
    stamp = tile("emoji.webp", number).resize((size, size), Image.Resampling.BICUBIC)
    if mirrored:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.paste(stamp, (round(middle[0] - size / 2), round(middle[1] - size / 2)), stamp)
    kind = KINDS.index(index()["emoji"][number][2])
    x, y, half = *middle, size / 2 - 3
    return Region(0, (x - half, y - half, x + half, y + half), {"kind": kind})


def single(rng: np.random.Generator, split: str) -> Scene:
    """One emoji, large."""
    number, kind = _any(rng, split)
    size = int(rng.integers(58, 90))
    image = canvas(rng)
    low, high = size / 2 + 1, SIDE - size / 2 - 1
    middle = (rng.uniform(low, high), rng.uniform(low, high))
    region = _stick(image, number, middle, size, bool(rng.integers(2)))
    wrong = pick(rng, [other for other in KINDS if other != kind])
    asked = [
        Question("emoji_kind", "What kind of thing is shown?", kind, chance=1 / len(KINDS)),
        lettered(rng, "emoji_kind", "What does the picture show?", kind, KINDS),
    ]
    shown = pick(rng, (kind, wrong))
    asked.append(Question("emoji_is", f"Is this {_article(shown)}?", yes(shown == kind), chance=0.5))
    return Scene([finish(image, rng)], asked, [region])


def _article(kind: str) -> str:
    if kind in ("food", "clothes"):
        return kind
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def several(rng: np.random.Generator, split: str) -> Scene:
    """One to six emoji of at most two sorts on a grid of nine places."""
    count = int(rng.integers(1, 7))
    sorts = [_any(rng, split) for _ in range(2)]
    places = some(rng, range(9), count)
    image = canvas(rng)
    kinds, regions = [], []
    for place in places:
        number, kind = pick(rng, sorts)
        kinds.append(kind)
        row, column = divmod(place, 3)
        middle = (column * 32 + 16 + rng.uniform(-2, 2), row * 32 + 16 + rng.uniform(-2, 2))
        regions.append(_stick(image, number, middle, int(rng.integers(24, 31)), bool(rng.integers(2))))
    asked = [Question("emoji_count", "How many emoji are there?", str(count), "number", 1 / 6)] * 2
    if count == 1:
        asked.append(Question("emoji_place", "Where is the emoji?", PLACES[places[0]], chance=1 / 9))
    for kind in dict.fromkeys(kinds):
        if kinds.count(kind) == 1 and count > 1:
            place = PLACES[places[kinds.index(kind)]]
            asked.append(Question("emoji_place", f"Where is the {kind}?", place, chance=1 / 9))
    free = [place for place in range(9) if place not in places]
    spot = pick(rng, pick(rng, (places, free)))
    where = f"in the {PLACES[spot]}" if spot == 4 else f"at the {PLACES[spot]}"
    asked.append(Question("emoji_there", f"Is there an emoji {where}?", yes(spot in places), chance=0.5))
    return Scene([finish(image, rng)], asked, regions)


def odd_one(rng: np.random.Generator, split: str) -> Scene:
    """Four emoji, three of them the same."""
    (common, _), (odd, _) = _any(rng, split), _any(rng, split)
    while odd == common:
        odd, _ = _any(rng, split)
    place = int(rng.integers(4))
    image = canvas(rng)
    regions = []
    for slot in range(4):
        middle = (slot % 2 * 48 + 24 + rng.uniform(-2, 2), slot // 2 * 48 + 24 + rng.uniform(-2, 2))
        number = odd if slot == place else common
        regions.append(_stick(image, number, middle, int(rng.integers(38, 44)), False))
    corner = _CORNERS[place]
    asked = [
        Question("emoji_odd", "Three emoji are the same. Where is the different one?", corner),
        lettered(rng, "emoji_odd", "Which emoji is different?", corner, _CORNERS),
    ]
    return Scene([finish(image, rng)], asked, regions)
