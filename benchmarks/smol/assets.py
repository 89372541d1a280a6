"""Real pictures and numbers of the benchmark, small enough to keep: `assets/`, and how it was made.

    python -m benchmarks.smol.assets --flags DIR --emoji NotoColorEmoji.ttf --tables DIR

`flags.png`   national flags, from Debian's iso-flags-png-320x240 1.0.2 (public domain), 72 x 54 pixels each
`emoji.webp`  emoji of eleven kinds, from Debian's fonts-noto-color-emoji 2.042 (SIL Open Font License 1.1),
              56 x 56 pixels each, transparent; kinds by their Unicode blocks and names
`tables.json` series of real numbers, from the package vega_datasets 0.9 (BSD-3-Clause)
`index.json`  what is where
"""

from __future__ import annotations

import argparse
import csv
import json
import unicodedata
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parent / "assets"
FLAG, EMOJI, COLUMNS = (72, 54), (56, 56), 24
# Ranges of code points that hold one kind, more or less; `_NOT` takes out what is of another.
_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "animal": ((0x1F400, 0x1F43C), (0x1F980, 0x1F9AE)),
    "food": ((0x1F345, 0x1F370), (0x1F950, 0x1F96F), (0x1F9C0, 0x1F9CB), (0x1F32D, 0x1F330)),
    "face": ((0x1F600, 0x1F637), (0x1F641, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F929)),
    "clock": ((0x1F550, 0x1F567),),
    "vehicle": ((0x1F681, 0x1F69C), (0x1F69F, 0x1F6A4), (0x1F6F3, 0x1F6FC)),
    "building": ((0x1F3E0, 0x1F3F0),),
    "hand": ((0x1F446, 0x1F450), (0x1F590, 0x1F596), (0x1F918, 0x1F91F), (0x1F90C, 0x1F90F)),
    "heart": ((0x1F493, 0x1F49F), (0x1F5A4, 0x1F5A4), (0x1F90D, 0x1F90E), (0x1F9E1, 0x1F9E1)),
    "plant": ((0x1F331, 0x1F344), (0x1F337, 0x1F343)),
    "clothes": ((0x1F451, 0x1F462), (0x1F97B, 0x1F97F), (0x1F9E2, 0x1F9E6)),
    "person": ((0x1F466, 0x1F469), (0x1F46E, 0x1F478), (0x1F9D1, 0x1F9DD), (0x1F930, 0x1F936)),
}
_NOT = ("HEART-SHAPED", "CAT FACE", "PAW", "MONKEY", "EAR OF", "CHESTNUT", "CHOPSTICK", "FORK", "MICROBE",
        "PERSON WITH BALL", "SUNFLOWER SEED", "ROOTED", "TRAM CAR", "LIGHT", "LOVE HOTEL", "MAPLE SYRUP",
        "BEATING", "BLOSSOM ", "HOT PEPPER", "BUSTS", "FOOTPRINTS", "PHANTOM", "ICE CUBE")  # fmt: skip


def emoji_kinds() -> list[tuple[int, str]]:
    """(code point, kind), in the order of the code points."""
    found: dict[int, str] = {}
    for kind, ranges in _RANGES.items():
        for low, high in ranges:
            for point in range(low, high + 1):
                name = unicodedata.name(chr(point), "")
                if name and not any(word in name for word in _NOT):
                    found.setdefault(point, kind)
    return sorted(found.items())


def _emoji(font_file: Path) -> tuple[Image.Image, list[list[str]]]:
    font = ImageFont.truetype(str(font_file), 109)
    tiles, names = [], []
    for point, kind in emoji_kinds():
        tile = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
        ImageDraw.Draw(tile).text((0, 0), chr(point), font=font, embedded_color=True)
        if tile.getbbox() is not None and np.asarray(tile)[..., :3].std() > 5:
            tiles.append(tile.resize(EMOJI, Image.Resampling.LANCZOS))
            names.append([f"{point:x}", unicodedata.name(chr(point)).lower(), kind])
    return _sheet(tiles, EMOJI, "RGBA"), names


def _flags(folder: Path) -> tuple[Image.Image, list[str]]:
    files = sorted(file for file in folder.glob("??.png"))
    tiles = [_without_border(Image.open(file).convert("RGBA")) for file in files]
    return _sheet(tiles, FLAG, "RGB"), [file.stem for file in files]


def _without_border(flag: Image.Image) -> Image.Image:
    """The flag alone: around it is a transparent border, and a frame three pixels wide."""
    solid = flag.getchannel("A").point(lambda level: 255 if level > 250 else 0)
    left, top, right, bottom = solid.getbbox() or (0, 0, *flag.size)
    inner = flag.crop((left + 4, top + 4, right - 4, bottom - 4)).convert("RGB")
    return inner.resize(FLAG, Image.Resampling.LANCZOS)


def _sheet(tiles: list[Image.Image], size: tuple[int, int], mode: str) -> Image.Image:
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new(mode, (COLUMNS * size[0], rows * size[1]))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % COLUMNS * size[0], number // COLUMNS * size[1]))
    return sheet


def _tables(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Table -> series -> numbers in their order."""

    def rows(name: str) -> list[dict[str, Any]]:
        file = folder / name
        if file.suffix == ".json":
            return list(json.loads(file.read_text(encoding="utf-8")))
        with file.open(encoding="utf-8", newline="") as text:
            return list(csv.DictReader(text))

    found: dict[str, dict[str, list[float]]] = {}

    def collect(table: str, name: str, series: str, value: str, every: int = 1) -> None:
        made: dict[str, list[float]] = defaultdict(list)
        for row in rows(name):
            if row.get(value) not in (None, ""):
                made[str(row[series]) if series else value].append(round(float(row[value]), 3))
        found.setdefault(table, {}).update({key: numbers[::every][:120] for key, numbers in made.items()})

    collect("stocks", "stocks.csv", "symbol", "price")
    collect("electricity", "iowa-electricity.csv", "source", "net_generation")
    collect("barley", "barley.json", "site", "yield")
    collect("wheat", "wheat.json", "", "wheat")
    collect("wages", "wheat.json", "", "wages")
    collect("weather", "seattle-weather.csv", "weather", "temp_max", 9)
    collect("temperatures", "sf-temps.csv", "", "temp", 37)
    collect("driving", "driving.json", "side", "miles")
    collect("gas", "driving.json", "side", "gas")
    for value in ("Horsepower", "Miles_per_Gallon", "Weight_in_lbs", "Displacement"):
        collect("cars", "cars.json", "", value, 3)
    for value in ("petalLength", "sepalLength", "petalWidth", "sepalWidth"):
        collect("iris", "iris.json", "", value)
    for value in ("private", "construction", "manufacturing", "retail_trade", "information", "government"):
        collect("employment", "us-employment.csv", "", value)
    for value in ("disease", "wounds", "other"):
        collect("crimea", "crimea.json", "", value)
    return found


@cache
def index() -> dict[str, Any]:
    """Names of the flags and emoji, in the order of the sheets; read-only."""
    held: dict[str, Any] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    return held


@cache
def tables() -> dict[str, dict[str, list[float]]]:
    """Table -> series -> numbers; read-only."""
    held: dict[str, dict[str, list[float]]] = json.loads((FOLDER / "tables.json").read_text(encoding="utf-8"))
    return held


@cache
def _opened(name: str) -> Image.Image:
    image = Image.open(FOLDER / name)
    image.load()
    return image


def tile(name: str, number: int) -> Image.Image:
    """One flag (RGB 72 x 54) of flags.png, or one emoji (RGBA 56 x 56) of emoji.webp."""
    width, height = FLAG if name.startswith("flags") else EMOJI
    x, y = number % COLUMNS * width, number // COLUMNS * height
    return _opened(name).crop((x, y, x + width, y + height))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--flags", type=Path, required=True, help="folder of xx.png")
    parser.add_argument("--emoji", type=Path, required=True, help="the font file")
    parser.add_argument("--tables", type=Path, required=True, help="folder `_data` of vega_datasets")
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    emoji, names = _emoji(args.emoji)
    emoji.save(FOLDER / "emoji.webp", quality=82, method=6)
    flags, codes = _flags(args.flags)
    flags.save(FOLDER / "flags.png", optimize=True)
    (FOLDER / "index.json").write_text(json.dumps({"flags": codes, "emoji": names}) + "\n", encoding="utf-8")
    (FOLDER / "tables.json").write_text(json.dumps(_tables(args.tables)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
