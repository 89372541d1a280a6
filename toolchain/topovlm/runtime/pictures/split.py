"""Pictures cut into square tiles, and the whole of them as one more tile (Idefics 3, SmolVLM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from topovlm.families.canvases import longest_edge, whole_tiles
from topovlm.pictures import to_rgb
from topovlm.runtime.pictures.seen import Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source, square_side
from topovlm.runtime.pictures.steps import HALF, Finish, cut, resized

_TILE = 364  # px, where no file states it
_AROUND, _WHOLE = "<fake_token_around_image>", "<global-img>"


@dataclass(frozen=True)
class Split(OneForOne):
    """`edge`: px of the longer side before cutting, 0 leaves the size. `cuts`: or one tile alone."""

    placeholder: str
    finish: Finish
    resample: int
    edge: int
    tile: int
    cuts: bool
    tile_tokens: int
    joins: bool = True

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[tiles, 3, H, W]`, pixel_attention_mask bool `[tiles, H, W]`; the whole last.

        `tiles` is (0, 0) for a picture that is one tile.
        """
        image = to_rgb(picture)
        if self.edge:
            image = self._to(image, longest_edge(image.height, image.width, self.edge))
        rows, columns, tiles = self._tiles(image)
        pixels = np.stack([self.finish(tile) for tile in tiles])
        mask = np.ones((len(tiles), *pixels.shape[2:]), bool)  # tiles are full: nothing is padding
        feeds = {"pixel_values": pixels, "pixel_attention_mask": mask}
        return Seen(feeds, len(tiles) * self.tile_tokens, tiles=(rows, columns))

    def _tiles(self, image: Image.Image) -> tuple[int, int, list[np.ndarray]]:
        square = (self.tile, self.tile)
        if not self.cuts:
            return 0, 0, [np.asarray(self._to(image, square))]
        image = self._to(image, whole_tiles(image.height, image.width, self.tile))
        if (image.height, image.width) == square:
            return 0, 0, [np.asarray(image)]
        rows, columns = image.height // self.tile, image.width // self.tile
        parts = cut(image, rows, columns, self.tile)
        return rows, columns, [*parts, np.asarray(self._to(image, square))]

    def _to(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        return resized(image, size, self.resample)

    def expand(self, seen: Seen) -> str:
        """Each tile behind its place, a line per row; the whole picture behind an empty line."""
        rows, columns = seen.tiles or (0, 0)
        tokens = self.placeholder * self.tile_tokens
        text = ""
        for row in range(1, rows + 1):
            places = (f"{_AROUND}<row_{row}_col_{column}>{tokens}" for column in range(1, columns + 1))
            text += "".join(places) + "\n"
        return (
            f"{text}\n{_AROUND}{_WHOLE}{tokens}{_AROUND}" if text else f"{_AROUND}{_WHOLE}{tokens}{_AROUND}"
        )


def build(source: Source) -> Split:
    """Raises `InputError` for a size that is not stated by its longest edge, and for foreign steps."""
    source.refuse("do_center_crop", "do_pan_and_scan", "image_grid_pinpoints")
    tile = square_side(source.image("max_image_size", {"longest_edge": _TILE}), "max_image_size")
    edge = source.edge("longest_edge", 4 * _TILE)
    return Split(
        placeholder=source.image_token(),
        finish=Finish.from_config(source.images, FIELD, HALF, HALF),
        resample=int(source.image("resample", Image.Resampling.LANCZOS)),
        edge=edge if source.image("do_resize", True) else 0,
        tile=tile,
        cuts=bool(source.image("do_image_splitting", True)),
        tile_tokens=_tile_tokens(source),
    )


def _tile_tokens(source: Source) -> int:
    """Of a tile of the tower's own size, which is what its features are counted by."""
    side = int(source.vision("image_size")) // int(source.vision("patch_size"))
    return side**2 // int(source.whole("scale_factor", 2)) ** 2
