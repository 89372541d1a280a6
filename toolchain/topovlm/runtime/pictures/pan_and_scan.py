"""A picture at one size, and crops of a long one (Gemma 3).

Its processor crops only when the call asks for it: what preprocessor_config.json says of pan and scan is
overruled by the processor's own settings. `images_kwargs` in the processor's file stands for such a call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.canvases import Size, crops
from topovlm.pictures import to_rgb
from topovlm.runtime.pictures.seen import Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source
from topovlm.runtime.pictures.steps import HALF, Finish, resized

_BEGIN, _END, _SIDE = 255_999, 256_000, 224  # token ids and px, where no file states them


@dataclass(frozen=True)
class PanAndScan(OneForOne):
    """`begin` stands for a picture in the prompt. `most_crops`: 0 for none; `least_side`: px of a crop."""

    placeholder: str
    token: str
    end: str
    finish: Finish
    resample: int
    size: Size
    picture_tokens: int
    most_crops: int
    least_side: int
    least_ratio: float
    joins: bool = True

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[1 + crops, 3, H, W]`, the whole picture first."""
        image = to_rgb(picture)
        shown = [image, *self._crops(image)]
        pixels = np.stack(
            [self.finish(np.asarray(resized(part, self.size, self.resample))) for part in shown]
        )
        return Seen({"pixel_values": pixels}, len(shown) * self.picture_tokens, tiles=(len(shown), 1))

    def _crops(self, image: Image.Image) -> list[Image.Image]:
        if not self.most_crops:
            return []
        rows, columns = crops(image.height, image.width, self.least_side, self.most_crops, self.least_ratio)
        if not rows:
            return []
        tall, wide = -(-image.height // rows), -(-image.width // columns)
        if (rows - 1) * tall >= image.height or (columns - 1) * wide >= image.width:
            rule = "its last crop would be empty"
            remedy = "Ask for larger crops (pan_and_scan_min_crop_size)"
            raise InputError(explain("image_size", f"{image.height}x{image.width}", rule, remedy))
        corners = [(row * tall, column * wide) for row in range(rows) for column in range(columns)]
        return [
            image.crop((left, top, min(left + wide, image.width), min(top + tall, image.height)))
            for top, left in corners
        ]

    def expand(self, seen: Seen) -> str:
        """Begin, tokens, end; with crops, a sentence that names them."""
        whole = f"\n\n{self.placeholder}{self.token * self.picture_tokens}{self.end}\n\n"
        count = seen.tokens // self.picture_tokens - 1
        if not count:
            return whole
        rest = " ".join([whole] * count)
        return f"Here is the original image {whole} and here are some crops to help you see better {rest}"


def build(source: Source) -> PanAndScan:
    """Raises `InputError` for foreign steps."""
    source.refuse("do_center_crop", "do_image_splitting", "image_grid_pinpoints")
    source.resizes()
    size = source.image("size", {"height": _SIDE, "width": _SIDE})
    asked = source.stated("images_kwargs", {})
    return PanAndScan(
        placeholder=source.token(int(source.whole("boi_token_index", _BEGIN))),
        token=source.image_token(),
        end=source.token(int(source.whole("eoi_token_index", _END))),
        finish=Finish.from_config(source.images, FIELD, HALF, HALF),
        resample=int(source.image("resample", Image.Resampling.BILINEAR)),
        size=(int(size["height"]), int(size["width"])),
        picture_tokens=int(source.whole("mm_tokens_per_image", 256)),
        most_crops=int(asked.get("pan_and_scan_max_num_crops", 4)) if asked.get("do_pan_and_scan") else 0,
        least_side=int(asked.get("pan_and_scan_min_crop_size", 256)),
        least_ratio=float(asked.get("pan_and_scan_min_ratio_to_activate", 1.2)),
    )
