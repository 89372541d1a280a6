"""National flags: colours by place, main colour, stripes; answered by the flag's own pixels.

No flag is to be named: a country whose flag was never seen cannot be, and no flag is in two splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from benchmarks.smol.assets import FLAG, index, tile
from benchmarks.smol.pictures import (
    COLOURS,
    PLACES,
    SIDE,
    canvas,
    colour_shares,
    finish,
    lettered,
    split_among,
)
from topovlm.reference.scenes import Question, Region, Scene, pick, yes

_SAME = 14.0  # mean difference in levels below which two flags count as one (overseas territories)
# A flag's colours, those between which a guess would choose.
NAMES = ("red", "orange", "yellow", "green", "blue", "white", "black")
_PLACED = ("top left", "top right", "bottom left", "bottom right", "top", "bottom", "center", "left", "right")


@cache
def _different() -> tuple[list[int], list[str]]:
    """Flags no two of which look the same: their numbers on the sheet, and their codes."""
    codes: list[str] = index()["flags"]
    kept: list[int] = []
    seen: list[np.ndarray] = []
    for number in range(len(codes)):
        small = np.asarray(tile("flags.png", number).resize((24, 18), Image.Resampling.BOX), float)
        if all(np.abs(small - other).mean() > _SAME for other in seen):
            kept.append(number)
            seen.append(small)
    return kept, [codes[number] for number in kept]


@cache
def pool(split: str) -> tuple[int, ...]:
    """Numbers of the flags that a split may use."""
    kept, codes = _different()
    return tuple(kept[i] for i in split_among(codes, split))


def _cell(pixels: np.ndarray, place: str) -> np.ndarray:
    """The middle of one of nine parts, pixels [N, 3]."""
    row, column = divmod(PLACES.index(place), 3)
    height, width = FLAG[1] // 3, FLAG[0] // 3
    part = pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return part[4:-4, 5:-5].reshape(-1, 3)


@dataclass(frozen=True)
class Facts:
    """What can be asked of a flag: (place, colour) where a ninth has one colour, its main colour or "", how
    its stripes run or "", colours that are there, colours that are not."""

    placed: tuple[tuple[str, str], ...]
    main: str
    stripes: str
    there: tuple[str, ...]
    absent: tuple[str, ...]


@cache
def facts(number: int) -> Facts:
    """Of a flag by its number on the sheet, by its pixels."""
    pixels = np.asarray(tile("flags.png", number))
    placed = []
    for place in _PLACED:
        name, share = max(colour_shares(_cell(pixels, place)).items(), key=lambda pair: pair[1])
        if share > 0.8 and name in NAMES:
            placed.append((place, name))
    shares = colour_shares(pixels.reshape(-1, 3))
    first, second = sorted(shares.items(), key=lambda pair: -pair[1])[:2]
    main = first[0] if first[1] > second[1] + 0.12 and first[0] in NAMES else ""
    there = tuple(name for name in NAMES if shares[name] > 0.06)
    absent = tuple(name for name in NAMES if shares[name] < 0.004)
    return Facts(tuple(placed), main, _stripes(pixels), there, absent)


def _stripes(pixels: np.ndarray) -> str:
    """A flag of horizontal stripes hardly changes along its rows; what is between the cases is not asked."""
    levels = pixels[3:-3, 3:-3].astype(float)
    along_rows, along_columns = levels.std(1).mean(), levels.std(0).mean()
    if along_rows < 12 and along_columns > 30:
        return "horizontal"
    if along_columns < 12 and along_rows > 30:
        return "vertical"
    return "none" if min(along_rows, along_columns) > 38 else ""


def _regions(
    placed: Sequence[tuple[str, str]], corner: tuple[int, int], size: tuple[int, int]
) -> list[Region]:
    found = []
    for place, name in placed:
        row, column = divmod(PLACES.index(place), 3)
        x, y, width, height = *corner, size[0] / 3, size[1] / 3
        box = (x + column * width, y + row * height, x + (column + 1) * width, y + (row + 1) * height)
        found.append(Region(0, box, {"tone": COLOURS.index(name)}))
    return found


def flag(rng: np.random.Generator, split: str) -> Scene:
    """One flag somewhere on a light canvas."""
    number = pick(rng, pool(split))
    width = int(rng.integers(66, 92))
    height = round(width * FLAG[1] / FLAG[0])
    image = canvas(rng)
    corner = (int(rng.integers(2, SIDE - 1 - width)), int(rng.integers(2, SIDE - 1 - height)))
    image.paste(tile("flags.png", number).resize((width, height), Image.Resampling.BICUBIC), corner)
    image.paste((90, 90, 90), (corner[0] - 1, corner[1] - 1, corner[0], corner[1] + height))
    known = facts(number)
    asked = []
    for place, colour in known.placed:
        where = f"in the {place}" if place == "center" else f"at the {place}"
        asked.append(Question("flag_colour", f"What colour is the flag {where}?", colour, chance=1 / 7))
    if known.main:
        asked.append(
            Question("flag_colour", "What is the main colour of the flag?", known.main, chance=1 / 7)
        )
    if known.there and len(known.absent) >= 3:
        colour = pick(rng, known.there)
        asked.append(
            lettered(rng, "flag_colour", "Which of these colours is in the flag?", colour, known.absent)
        )
    if known.there and known.absent:
        colour = pick(rng, pick(rng, (known.there, known.absent)))
        truth = yes(colour in known.there)
        asked.append(Question("flag_has", f"Is there {colour} in the flag?", truth, chance=0.5))
    if known.stripes:
        prompt = "Which way do the stripes of the flag run: horizontal, vertical or none?"
        asked.append(Question("flag_stripes", prompt, known.stripes, chance=1 / 3))
    return Scene([finish(image, rng)], asked, _regions(known.placed, corner, (width, height)))
