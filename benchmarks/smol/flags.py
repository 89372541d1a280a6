"""National flags: colours by place, main colour, stripes. The questions are answered by the flag's own pixels.

No flag is to be named: a country whose flag was never seen cannot be, and no flag is in two splits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from benchmarks.smol.assets import FLAG, index, tile
from benchmarks.smol.pictures import PLACES, SIDE, canvas, colour_shares, finish, lettered, split_among
from topovlm.reference.scenes import Question, Scene, pick, yes

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


@cache
def _facts(number: int) -> tuple[tuple[tuple[str, str], ...], str, str, tuple[str, ...], tuple[str, ...]]:
    """(colours by place, main colour or "", stripes, colours that are there, colours that are not)."""
    pixels = np.asarray(tile("flags.png", number))
    placed = []
    for place in _PLACED:
        name, share = max(colour_shares(_cell(pixels, place)).items(), key=lambda pair: pair[1])
        if share > 0.8 and name in NAMES:
            placed.append((place, name))
    shares = colour_shares(pixels.reshape(-1, 3))
    ordered = sorted(shares.items(), key=lambda pair: -pair[1])
    main = ordered[0][0] if ordered[0][1] > ordered[1][1] + 0.12 and ordered[0][0] in NAMES else ""
    wide = pixels.astype(float)
    along_rows, along_columns = wide.std(1).mean(), wide.std(0).mean()
    stripes = ""
    if along_rows < 8 and along_columns > 25:
        stripes = "horizontal"
    elif along_columns < 8 and along_rows > 25:
        stripes = "vertical"
    elif min(along_rows, along_columns) > 25:
        stripes = "none"
    there = tuple(name for name in NAMES if shares[name] > 0.06)
    absent = tuple(name for name in NAMES if shares[name] < 0.004)
    return tuple(placed), main, stripes, there, absent


def flag(rng: np.random.Generator, split: str) -> Scene:
    """One flag somewhere on a light canvas."""
    number = pick(rng, pool(split))
    width = int(rng.integers(66, 92))
    height = round(width * FLAG[1] / FLAG[0])
    image = canvas(rng)
    corner = (int(rng.integers(2, SIDE - 1 - width)), int(rng.integers(2, SIDE - 1 - height)))
    image.paste(tile("flags.png", number).resize((width, height), Image.Resampling.BICUBIC), corner)
    image.paste((90, 90, 90), (corner[0] - 1, corner[1] - 1, corner[0], corner[1] + height))
    placed, main, stripes, there, absent = _facts(number)
    asked = []
    for place, colour in placed:
        where = f"in the {place}" if place == "center" else f"at the {place}"
        asked.append(Question("flag_colour", f"What colour is the flag {where}?", colour, chance=1 / 7))
    if main:
        asked.append(Question("flag_colour", "What is the main colour of the flag?", main, chance=1 / 7))
    if there and len(absent) >= 3:
        colour = pick(rng, there)
        asked.append(lettered(rng, "flag_colour", "Which of these colours is in the flag?", colour, absent))
    if there and absent:
        colour = pick(rng, pick(rng, (there, absent)))
        asked.append(Question("flag_has", f"Is there {colour} in the flag?", yes(colour in there), chance=0.5))
    if stripes:
        asked.append(Question("flag_stripes", "Which way do the stripes of the flag run: horizontal, vertical or none?",
                              stripes, chance=1 / 3))  # fmt: skip
    return Scene([finish(image, rng)], asked)
