"""Pictures at their own size, as a sequence of patches (Qwen2-VL, 2.5, 3; GLM-4V; PaddleOCR-VL).

The tower's positions, windows and taps into its table of learned positions are made here, in the order in
which the processor lays out the patches: by blocks that merge into one token, or row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families import canvases
from topovlm.families.family import named
from topovlm.pictures import to_rgb
from topovlm.records import Strict
from topovlm.runtime.pictures.films import Films, Reel, reel_of
from topovlm.runtime.pictures.grids import Taps, interpolation, positions
from topovlm.runtime.pictures.seen import Film, Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source, square_side
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD, HALF, Finish, resized
from topovlm.runtime.pictures.windows import window_gather
from topovlm.videos.frames import Frames


class Kind(Strict, frozen=True, kw_only=True):
    """What a family does otherwise than Qwen2-VL, as its record says it (`tokens.pictures`).

    `resize`: a function of `families.canvases`. `min_pixels`, `max_pixels`, `frames`: of the image processor
    where its file states none. `blocks`: patches that merge follow each other. `scaled_frames`: bounds hold
    for the picture repeated as often as a patch is long in time. `merge`: patches along one side of a token,
    where neither file states it. `half`: mean and standard deviation are 0.5 where the file states none.
    `windows`: the tower has some. `taps`: how its learned positions are resampled, if they are.
    """

    resize: str = "smart_resize"
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    frames: int = 2
    blocks: bool = True
    scaled_frames: bool = False
    merge: int = 2
    half: bool = False
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
    reel: Reel | None = None

    @property
    def film_placeholder(self) -> str:  # type: ignore[override]  # that of its reel
        return self.reel.placeholder if self.reel else ""

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
        pixels = self.finish(np.asarray(resized(image, size, self.resample)))
        rows, columns = size[0] // self.patch // self.merge, size[1] // self.patch // self.merge
        return Seen(self.feeds([pixels] * self.frames), rows * columns, grid=(1, rows, columns))

    def watch(self, frames: Frames) -> Film:
        """Frames that share a patch are a run of the graph: no patch sees those of another moment."""
        if self.reel is None:
            return super().watch(frames)
        shown = self.reel.shown(frames, self.patch * self.merge, self.frames)
        runs = tuple(
            self.feeds(shown[start : start + self.frames]) for start in range(0, len(shown), self.frames)
        )
        rows, columns = (side // self.patch // self.merge for side in shown[0].shape[1:])
        return self.reel.film(frames, runs, rows, columns, self.frames)

    def feeds(self, pixels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Of float32 `[3, H, W]`, as many as a patch is long in time."""
        rows, columns = (side // self.patch for side in pixels[0].shape[1:])
        block = self.merge if self.kind.blocks else 1
        feeds = {
            "pixel_values": self._patches(np.stack(pixels), block),
            "position_ids": positions(rows, columns, block),
        }
        if self.kind.windows:
            feeds["window_gather"] = window_gather(rows, columns, self.merge, self.window)
        if self.kind.taps:
            taps = Taps(self.kind.taps, self.kind.align_corners)
            read = interpolation(feeds["position_ids"], (rows, columns), self.table, taps)
            feeds["interp_indices"], feeds["interp_weights"] = read
        return feeds

    def _patches(self, pixels: np.ndarray, block: int) -> np.ndarray:
        """`[frames, 3, H, W]` -> one row per patch: channels, frames, rows, columns."""
        side, frames = self.patch, len(pixels)
        rows, columns = (length // side // block for length in pixels.shape[2:])
        cells = pixels.reshape(frames, 3, rows, block, side, columns, block, side)
        cells = cells.transpose(2, 5, 3, 6, 1, 0, 4, 7)
        return np.ascontiguousarray(cells.reshape(rows * columns * block * block, -1))


def build(source: Source) -> Native:
    """Raises `InputError` for steps that it does not do."""
    kind = source.rules(Kind)
    source.refuse("do_center_crop", "do_image_splitting", "do_pan_and_scan", "image_grid_pinpoints")
    size: Any = source.image("size", {})
    merge = int(source.image("merge_size", source.vision("spatial_merge_size", kind.merge)))
    usual = (HALF, HALF) if kind.half else (CLIP_MEAN, CLIP_STD)
    patch = square_side(source.image("patch_size", source.vision("patch_size")), "patch_size")
    return Native(
        kind=kind,
        placeholder=source.image_token(),
        finish=Finish.from_config(source.images, FIELD, *usual),
        resample=int(source.image("resample", Image.Resampling.BICUBIC)),
        least=int(source.image("min_pixels") or size.get("shortest_edge") or kind.min_pixels),
        most=int(source.image("max_pixels") or size.get("longest_edge") or kind.max_pixels),
        patch=patch,
        merge=merge,
        frames=int(source.image("temporal_patch_size", kind.frames)),
        resize=bool(source.image("do_resize", True)),
        window=int(source.vision("window_size", 112)) // patch // merge,
        table=_table_side(source, patch) if kind.taps else 0,
        reel=reel_of(source, source.film_rules(Films), usual),
    )


def _table_side(source: Source, patch: int) -> int:
    """Positions along one side of the tower's table."""
    count = source.vision("num_position_embeddings")
    if count is not None:
        return math.isqrt(int(count))
    return square_side(source.vision("image_size"), "vision_config.image_size") // patch
