"""Pictures at their own size, as a sequence of patches (Qwen2-VL, 2.5, 3; GLM-4V; PaddleOCR-VL).

The tower's positions, windows and taps into its table of learned positions are made here, in the order in
which the processor lays out the patches: by blocks that merge into one token, or row by row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families import canvases
from topovlm.families.family import named
from topovlm.pictures import to_rgb
from topovlm.records import Strict
from topovlm.runtime.pictures.grids import Taps, interpolation, positions
from topovlm.runtime.pictures.seen import Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source, square_side
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD, Finish, resized
from topovlm.runtime.pictures.windows import window_gather


class Kind(Strict, frozen=True, kw_only=True):
    """What a family does otherwise than Qwen2-VL, as its record says it (`tokens.pictures`).

    `resize`: a function of `families.canvases`. `min_pixels`, `max_pixels`, `frames`: of the image processor
    where its file states none. `blocks`: patches that merge follow each other. `scaled_frames`: bounds hold
    for the picture repeated as often as a patch is long in time. `windows`: the tower has some. `taps`: how
    its learned positions are resampled, if they are.
    """

    resize: str = "smart_resize"
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    frames: int = 2
    blocks: bool = True
    scaled_frames: bool = False
    windows: bool = False
    taps: Literal["", "bilinear", "bicubic"] = ""
    align_corners: bool = False


@dataclass(frozen=True)
class Native(OneForOne):
    """`least`, `most`: bounds in px. `window`: tokens along a window's side. `table`: along the table's."""

    kind: Kind
    placeholder: str
    finish: Finish
    resample: int
    least: int
    most: int
    patch: int
    merge: int
    frames: int
    resize: bool
    window: int
    table: int
    joins: bool = False

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[patches, 3 * frames * patch * patch]`, position_ids int64 `[patches, 2]`;
        window_gather int64 `[windows, size]`, interp_indices int64 and interp_weights float32
        `[patches, taps]` where the family has them.
        """
        image = to_rgb(picture)
        size = (image.height, image.width)
        if self.resize:
            frames = self.frames if self.kind.scaled_frames else 1
            brought = named(self.kind.resize, canvases.__name__)
            size = brought(*size, self.patch * self.merge, self.least, self.most, frames=frames)
        elif any(side % (self.patch * self.merge) for side in size):
            rule = f"must be multiples of {self.patch * self.merge} px: this image processor does not resize"
            raise InputError(explain("image_size", f"{size[0]}x{size[1]}", rule, "Set do_resize to true"))
        rows, columns = size[0] // self.patch, size[1] // self.patch
        block = self.merge if self.kind.blocks else 1
        feeds = {
            "pixel_values": self._patches(
                self.finish(np.asarray(resized(image, size, self.resample))), block
            ),
            "position_ids": positions(rows, columns, block),
        }
        if self.kind.windows:
            feeds["window_gather"] = window_gather(rows, columns, self.merge, self.window)
        if self.kind.taps:
            taps = Taps(self.kind.taps, self.kind.align_corners)
            read = interpolation(feeds["position_ids"], (rows, columns), self.table, taps)
            feeds["interp_indices"], feeds["interp_weights"] = read
        rows, columns = rows // self.merge, columns // self.merge
        return Seen(feeds, rows * columns, grid=(1, rows, columns))

    def _patches(self, pixels: np.ndarray, block: int) -> np.ndarray:
        """`[3, H, W]` -> one row per patch: channels, the picture repeated in time, rows, columns."""
        side = self.patch
        rows, columns = (length // side // block for length in pixels.shape[1:])
        cells = pixels.reshape(3, rows, block, side, columns, block, side).transpose(1, 4, 2, 5, 0, 3, 6)
        cells = np.repeat(cells[:, :, :, :, :, None], self.frames, axis=5)
        return np.ascontiguousarray(cells.reshape(rows * columns * block * block, -1))


def build(source: Source) -> Native:
    """Raises `InputError` for steps that it does not do."""
    kind = source.rules(Kind)
    source.refuse("do_center_crop", "do_image_splitting", "do_pan_and_scan", "image_grid_pinpoints")
    size: Any = source.image("size", {})
    merge = int(source.image("merge_size", source.vision("spatial_merge_size", 2)))
    patch = square_side(source.image("patch_size", source.vision("patch_size")), "patch_size")
    return Native(
        kind=kind,
        placeholder=source.image_token(),
        finish=Finish.from_config(source.images, FIELD, CLIP_MEAN, CLIP_STD),
        resample=int(source.image("resample", Image.Resampling.BICUBIC)),
        least=int(source.image("min_pixels") or size.get("shortest_edge") or kind.min_pixels),
        most=int(source.image("max_pixels") or size.get("longest_edge") or kind.max_pixels),
        patch=patch,
        merge=merge,
        frames=int(source.image("temporal_patch_size", kind.frames)),
        resize=bool(source.image("do_resize", True)),
        window=int(source.vision("window_size", 112)) // patch // merge,
        table=_table_side(source, patch) if kind.taps else 0,
    )


def _table_side(source: Source, patch: int) -> int:
    """Positions along one side of the tower's table."""
    count = source.vision("num_position_embeddings")
    if count is not None:
        return math.isqrt(int(count))
    return square_side(source.vision("image_size"), "vision_config.image_size") // patch
