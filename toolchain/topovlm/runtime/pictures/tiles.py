"""Pictures squeezed into a grid of square tiles, and a thumbnail (InternVL, Ovis 2, Perception-LM)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from topovlm.families.canvases import Size, covering_grid, nearest_grid, roomy_grid
from topovlm.pictures import to_rgb
from topovlm.runtime.pictures.seen import Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source, square_side
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD, HALF, Finish, cut, resized

_SIDE = 384  # px of a tile, where no file states it
_PERCEPTION_SIDE = 448


@dataclass(frozen=True)
class Tiles(OneForOne):
    """`grid`: (height, width) of a picture -> (rows, columns). The thumbnail comes first or last; of a single
    tile there is none, or (`always`) there is one too.
    """

    placeholder: str
    token: str
    finish: Finish
    resample: int
    side: int
    tile_tokens: int
    grid: Callable[[int, int], Size] | None = None
    first: bool = False
    always: bool = False
    write: Callable[[Tiles, Seen], str] = field(default=lambda own, seen: own.token * seen.tokens)
    joins: bool = True

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[tiles, 3, side, side]`; `tiles`: the grid, thumbnail not counted."""
        image = to_rgb(picture)
        thumbnail = np.asarray(resized(image, (self.side, self.side), self.resample))
        if self.grid is None:
            return self._seen([thumbnail], (1, 1))
        rows, columns = self.grid(image.height, image.width)
        canvas = resized(image, (rows * self.side, columns * self.side), self.resample)
        tiles = cut(canvas, rows, columns, self.side)
        if len(tiles) > 1 or self.always:
            tiles = [thumbnail, *tiles] if self.first else [*tiles, thumbnail]
        return self._seen(tiles, (rows, columns))

    def _seen(self, tiles: list[np.ndarray], grid: Size) -> Seen:
        pixels = np.stack([self.finish(tile) for tile in tiles])
        return Seen({"pixel_values": pixels}, len(tiles) * self.tile_tokens, tiles=grid)

    def expand(self, seen: Seen) -> str:
        """As the family writes it."""
        return self.write(self, seen)


def build(source: Source) -> Tiles:
    """Raises `InputError` for tiles that are not square, and for foreign steps."""
    source.refuse("do_pan_and_scan", "do_image_splitting", "image_grid_pinpoints")
    known = {"perception_lm": _perception, "ovis2": _ovis}
    return known.get(source.model_type, _internvl)(source)


def _tiles(source: Source, side: int, tile_tokens: int, centre: tuple[float, ...] | None = None) -> Tiles:
    token = source.image_token()
    return Tiles(
        placeholder=token,
        token=token,
        finish=Finish.from_config(source.images, FIELD, centre or CLIP_MEAN, centre or CLIP_STD),
        resample=int(source.image("resample", Image.Resampling.BICUBIC)),
        side=side,
        tile_tokens=tile_tokens,
    )


def _cut(source: Source, choose: Callable[..., Size], side: int) -> Callable[[int, int], Size] | None:
    least, most = int(source.image("min_patches", 1)), int(source.image("max_patches", 12))
    if most < 2:
        return None
    return lambda height, width: choose(height, width, (side, side), least, most)


def _patches(source: Source) -> int:
    """Along one side of a tile of the tower's own size."""
    image, patch = (square_side(source.vision(f"{part}_size"), f"{part}_size") for part in ("image", "patch"))
    return image // patch


def _internvl(source: Source) -> Tiles:
    """Its processor always cuts, whatever the image processor's file says."""
    side = square_side(source.image("size", _SIDE), "size")
    tokens = int(_patches(source) * float(source.whole("downsample_ratio", 0.5))) ** 2
    start, end = source.stated("start_image_token", "<img>"), source.stated("end_image_token", "</img>")
    return replace(
        _tiles(source, side, tokens),
        grid=_cut(source, nearest_grid, side),
        write=lambda own, seen: f"{start}{own.token * seen.tokens}{end}",
    )


def _perception(source: Source) -> Tiles:
    source.resizes()
    side = int(source.image("tile_size", _PERCEPTION_SIDE))
    most = int(source.image("max_num_tiles", 36))
    patch = int(source.stated("patch_size", source.vision("patch_size")))
    pooled = int(source.whole("projector_pooling_ratio", 1))
    cuts = source.image("vision_input_type", "thumb+tile") == "thumb+tile"
    return replace(
        _tiles(source, side, (side // patch // pooled) ** 2, HALF),
        grid=(lambda height, width: roomy_grid(height, width, side, most)) if cuts else None,
        first=True,
        always=True,
    )


def _ovis(source: Source) -> Tiles:
    source.resizes()
    source.refuse("do_center_crop")
    side = square_side(source.image("size", _SIDE), "size")
    tokens = math.ceil(_patches(source) / int(source.vision("hidden_stride", 1))) ** 2
    choose = covering_grid if source.image("use_covering_area_grid", True) else nearest_grid
    return replace(
        _tiles(source, side, tokens),
        placeholder="<image>",
        grid=_cut(source, choose, side) if source.image("crop_to_patches", False) else None,
        first=True,
        write=_ovis_text,
    )


def _ovis_text(own: Tiles, seen: Seen) -> str:
    """The thumbnail, then the tiles with marks between columns and between rows."""
    tokens = own.token * own.tile_tokens
    rows, columns = seen.tiles or (1, 1)
    line = "<IMG_COL>".join([tokens] * columns)
    tiles = "<IMG_ROW>".join([line] * rows) if rows * columns > 1 else ""
    return f"<IMG_START>{tokens}<IMG_GRID>{tiles}<IMG_END>"
