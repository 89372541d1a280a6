"""A picture squeezed into one tile, and in its own shape on a canvas of tiles (LLaVA-NeXT, LLaVA-OneVision).

The graph computes features of tiles; which of them make the prompt's image tokens, in which order, and where
a line ends, is given to it as indices and weights: the canvas's padding is left out, a newline ends each row,
and LLaVA-OneVision shrinks a large canvas (bilinear: four features to a token).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.canvases import Size, best_resolution, inside, margins, shrunk
from topovlm.pictures import to_rgb
from topovlm.records import Strict
from topovlm.runtime.pictures.recipe import ImageRecipe, to_pixels
from topovlm.runtime.pictures.seen import Film, Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source, square_side
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD, Finish, background, cut, padded, resized
from topovlm.videos.frames import Frames


class Films(Strict, frozen=True, kw_only=True):
    """What a family does with frames, as its record says it (`tokens.videos`): how a frame's features are
    shrunk to half their sides, and whether a newline follows the last frame."""

    shrink: Literal["bilinear", "average"] = "bilinear"
    newline: bool = True


_BILINEAR = Films()


@dataclass(frozen=True)
class Anyres(OneForOne):
    """`side`: px of a tile; `grid`: features along its side. `most_tiles`: of features in the canvas, 0 for
    any number. `together`: several pictures in a prompt are one tile each.
    """

    placeholder: str
    finish: Finish
    resample: int
    side: int
    grid: int
    canvases: tuple[Size, ...]
    colour: tuple[int, ...]
    most_tiles: int = 0
    together: bool = False
    joins: bool = False
    film_placeholder: str = ""
    film_recipe: ImageRecipe | None = None
    films: Films = _BILINEAR

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[tiles, 3, side, side]`, feature_index int64 and feature_weight float32
        `[taps, tokens]`: into the tiles' features row by row, and the newline as the last one.
        """
        image = to_rgb(picture)
        height, width = image.height, image.width
        canvas = best_resolution(height, width, self.canvases)
        shown = padded(self._to(image, inside(height, width, canvas)), canvas, (0, 0, 0))
        rows, columns = canvas[0] // self.side, canvas[1] // self.side
        tiles = [self._square(image), *cut(shown, rows, columns, self.side)]
        features = self._canvas(rows, columns)
        above, left = margins(height, width, *features.shape)
        features = features[above : features.shape[0] - above, left : features.shape[1] - left]
        return self._seen(tiles, features, (rows, columns))

    def see_all(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        """Each as alone; or, where the family treats several so, each as one tile, padded to a square."""
        if not self.together or len(pictures) < 2:
            return [self.see(picture) for picture in pictures]
        return [self._tile(to_rgb(picture)) for picture in pictures]

    def watch(self, frames: Frames) -> Film:
        """Each frame a run: one tile, its features shrunk to half their sides."""
        if self.film_recipe is None:
            return super().watch(frames)
        numbers = np.arange(self.grid**2).reshape(self.grid, self.grid)
        shrunken = (
            _halved(numbers)
            if self.films.shrink == "average"
            else _shrink(numbers, (-(-self.grid // 2),) * 2)
        )
        index, weight = (part.reshape(4, -1) for part in shrunken)
        tiles = [to_pixels(picture, self.film_recipe) for picture in frames.pictures]
        runs = [_with_taps([tile], index, weight, 4).feeds for tile in tiles]
        tokens = len(tiles) * index.shape[1]
        if self.films.newline:
            ended = np.pad(index, ((0, 0), (0, 1)), constant_values=self.grid**2)
            last = np.pad(weight, ((0, 0), (0, 1)))
            last[0, -1] = 1
            runs[-1], tokens = _with_taps(tiles[-1:], ended, last, 4).feeds, tokens + 1
        return Film(tuple(runs), tokens, self.film_placeholder * tokens)

    def _tile(self, image: Image.Image) -> Seen:
        side = max(image.size)
        tile = self._square(padded(image, (side, side), self.colour))
        count = self.grid**2
        index = np.arange(count + 1)[None]  # the newline is the row behind the last feature
        return _with_taps([self.finish(tile)], index, np.ones(index.shape), self._taps)

    @property
    def _taps(self) -> int:
        return 4 if self.most_tiles else 1

    def _to(self, image: Image.Image, size: Size) -> Image.Image:
        return resized(image, size, self.resample)

    def _square(self, image: Image.Image) -> np.ndarray:
        return np.asarray(self._to(image, (self.side, self.side)))

    def _canvas(self, rows: int, columns: int) -> np.ndarray:
        """Index of each feature of the canvas, as it lies there; the whole picture's tile goes before."""
        numbers = np.arange(rows * columns * self.grid**2) + self.grid**2
        cells = numbers.reshape(rows, columns, self.grid, self.grid).transpose(0, 2, 1, 3)
        return cells.reshape(rows * self.grid, columns * self.grid)

    def _seen(self, tiles: list[np.ndarray], features: np.ndarray, grid: Size) -> Seen:
        most = self.most_tiles * self.grid**2
        tall, wide = features.shape
        size = shrunk(tall, wide, most) if most else (tall, wide)
        index, weight = _shrink(features, size) if size != (tall, wide) else _as_it_is(features)
        newline = len(tiles) * self.grid**2
        index = np.concatenate([index, np.full((len(index), size[0], 1), newline)], axis=2)
        ends = np.zeros((len(weight), size[0], 1))
        ends[0] = 1
        weight = np.concatenate([weight, ends], axis=2)
        base = np.tile(np.arange(self.grid**2), (len(index), 1))
        first = np.zeros(base.shape)
        first[0] = 1
        index = np.concatenate([base, index.reshape(len(index), -1)], axis=1)
        weight = np.concatenate([first, weight.reshape(len(weight), -1)], axis=1)
        return _with_taps([self.finish(tile) for tile in tiles], index, weight, self._taps, grid)


def _halved(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights `[4, rows / 2, columns / 2]` of means of four; an odd row is left out."""
    half = len(features) // 2
    cells = features[: 2 * half, : 2 * half].reshape(half, 2, half, 2).transpose(1, 3, 0, 2)
    return cells.reshape(4, half, half), np.full((4, half, half), 0.25)


def _as_it_is(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features[None], np.ones((1, *features.shape))


def _shrink(features: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights `[4, rows, columns]` of a bilinear resize (pixel centres, no smoothing)."""
    (up, down, low), (left, right, far) = (
        _neighbours(have, want) for have, want in zip(features.shape, size, strict=True)
    )
    index = [features[np.ix_(rows, columns)] for rows in (up, down) for columns in (left, right)]
    weight = [np.outer(a, b) for a in (1 - low, low) for b in (1 - far, far)]
    return np.stack(index), np.stack(weight)


def _neighbours(have: int, want: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two places of `have` around each of `want`, and how far from the first; in single precision."""
    scale = np.float32(have) / np.float32(want)
    at = np.maximum(scale * (np.arange(want, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, have - 1), at - first.astype(np.float32)


def _with_taps(
    tiles: list[np.ndarray], index: np.ndarray, weight: np.ndarray, taps: int, grid: Size | None = None
) -> Seen:
    """Always as many taps as the family's graph was made for: those that are not needed weigh nothing."""
    spare = ((0, taps - len(index)), (0, 0))
    feeds = {
        "pixel_values": np.stack(tiles),
        "feature_index": np.pad(index, spare).astype(np.int64),
        "feature_weight": np.pad(weight, spare).astype(np.float32),
    }
    return Seen(feeds, index.shape[1], tiles=grid)


def build(source: Source) -> Anyres:
    """Raises `InputError` for tiles of another size than the tower's, and for foreign steps."""
    source.refuse("do_pan_and_scan", "do_image_splitting")
    source.resizes()
    side = square_side(source.image("size", source.vision("image_size")), "size")
    crop = source.image("crop_size") if source.image("do_center_crop") else None
    if crop is not None and square_side(crop, "crop_size") != side:
        raise InputError(explain(f"{FIELD}: crop_size", crop, f"must be the size of a tile, {side} px"))
    aspect = str(source.whole("vision_aspect_ratio", ""))
    finish = Finish.from_config(source.images, FIELD, CLIP_MEAN, CLIP_STD)
    films = _film_settings(source, side)
    return Anyres(
        placeholder=source.image_token(),
        finish=finish,
        resample=int(source.image("resample", Image.Resampling.BICUBIC)),
        side=side,
        grid=int(source.vision("image_size")) // int(source.vision("patch_size")),
        canvases=_canvases(source, side),
        colour=background(source.image("image_mean", CLIP_MEAN)),
        most_tiles=int(aspect.rpartition("_")[2]) if aspect.startswith("anyres_max_") else 0,
        together=bool(source.tokens.several),
        film_placeholder=source.film_token() if films else "",
        film_recipe=ImageRecipe.from_config(films, "video_preprocessor_config.json") if films else None,
        films=source.film_rules(Films) or _BILINEAR,
    )


def _film_settings(source: Source, side: int) -> dict[str, object]:
    """Empty where the family takes no videos. Raises `InputError` for frames of another size than a tile."""
    if source.tokens.videos is None or not source.film_token():
        return {}
    # A folder without settings for videos has those for pictures, which are cut into tiles as frames are not.
    stated = {name: value for name, value in source.videos.items() if name != "image_grid_pinpoints"}
    pooled = source.whole("spatial_pool_mode", "average"), source.whole("spatial_pool_stride", 2)
    if pooled != ("average", 2):
        raise InputError(explain("config.json: spatial_pool_mode", pooled, "must be the mean of 2 x 2"))
    mean, std = source.film("image_mean", CLIP_MEAN), source.film("image_std", CLIP_STD)
    size = {"height": side, "width": side}
    settings = {"size": size, **stated, "image_mean": mean, "image_std": std, "do_pad": False}
    recipe = ImageRecipe.from_config(settings, "video_preprocessor_config.json")
    made = recipe.crop or recipe.size
    if made != (side, side):
        rule = f"must be the size of a tile, {side} px"
        raise InputError(explain("video_preprocessor_config.json: size", settings["size"], rule))
    return settings


def _canvases(source: Source, side: int) -> tuple[Size, ...]:
    """(height, width) of each in px; without any stated, those of the family's record."""
    stated = source.image("image_grid_pinpoints", source.whole("image_grid_pinpoints"))
    if stated is None:
        rules = source.tokens
        sides = [rules.pinpoints_unit * count for count in range(1, rules.pinpoints_count + 1)]
        stated = [(height, width) for height in sides for width in sides]
    canvases = tuple((int(height), int(width)) for height, width in stated)
    for canvas in canvases:
        if canvas[0] % side or canvas[1] % side:
            rule = f"must be whole tiles of {side} px"
            raise InputError(explain(f"{FIELD}: image_grid_pinpoints", list(canvas), rule))
    return canvases
