"""Pictures in their own shape, rows of patches that end with a mark (Pixtral towers in LLaVA; Mistral 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.canvases import Size, patched
from topovlm.pictures import to_rgb
from topovlm.runtime.pictures.seen import Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source, square_side
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD, Finish, resized

_SIDE, _PATCH = 1024, 16  # px, where no file states them


@dataclass(frozen=True)
class Pixtral(OneForOne):
    """`most`: (height, width) in px. `merge`: patches along one side of a token. `table`: of positions."""

    placeholder: str
    row_end: str
    end: str
    finish: Finish
    resample: int
    most: Size
    patch: int
    merge: int
    table: int
    joins: bool = False

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[1, 3, H, W]`, position_ids int64 `[patches]`: row * table side + column."""
        image = to_rgb(picture)
        size = patched(image.height, image.width, self.most, self.patch * self.merge)
        rows, columns = size[0] // self.patch, size[1] // self.patch
        if max(rows, columns) > self.table:
            rule = f"gives {rows}x{columns} patches, and the tower has {self.table} places along a side"
            raise InputError(explain(f"{FIELD}: size", list(self.most), rule))
        pixels = self.finish(np.asarray(resized(image, size, self.resample)))[None]
        places = np.arange(rows)[:, None] * self.table + np.arange(columns)
        feeds = {"pixel_values": pixels, "position_ids": places.reshape(-1).astype(np.int64)}
        rows, columns = rows // self.merge, columns // self.merge
        return Seen(feeds, rows * columns, tiles=(rows, columns))

    def expand(self, seen: Seen) -> str:
        """A mark behind each row, another behind the last."""
        rows, columns = seen.tiles or (1, seen.tokens)
        return self.row_end.join([self.placeholder * columns] * rows) + self.end


def build(source: Source) -> Pixtral:
    """Raises `InputError` for foreign steps."""
    source.refuse("do_center_crop", "do_image_splitting", "do_pan_and_scan", "image_grid_pinpoints")
    source.resizes()
    size = source.image("size", {"longest_edge": _SIDE})
    longest = size.get("longest_edge")
    patch = square_side(source.vision("patch_size", _PATCH), "vision_config.patch_size")
    side = square_side(source.vision("image_size", _SIDE), "vision_config.image_size")
    return Pixtral(
        placeholder=source.image_token(),
        row_end=str(source.stated("image_break_token", "[IMG_BREAK]")),
        end=str(source.stated("image_end_token", "[IMG_END]")),
        finish=Finish.from_config(source.images, FIELD, CLIP_MEAN, CLIP_STD),
        resample=int(source.image("resample", Image.Resampling.BICUBIC)),
        most=(int(longest),) * 2 if longest else (int(size["height"]), int(size["width"])),
        patch=patch,
        merge=int(source.whole("spatial_merge_size", 1)),
        table=side // patch,
    )
