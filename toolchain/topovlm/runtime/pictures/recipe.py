"""Images -> the `pixel_values` that the checkpoint's own processor would make, with numpy and Pillow alone.

Facts come from the exported `preprocessor_config.json`; steps and their order (convert, pad, resize, crop,
rescale, normalise) are those of the Hugging Face image processors of the CLIP / SigLIP / LLaVA kind,
whose Pillow backend is the oracle in the tests. A step that we do not know is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.pictures import to_rgb
from topovlm.runtime.pictures.steps import Finish, background, centre_crop, keep_aspect, padded, resized

_UNKNOWN_STEPS = (
    "do_image_splitting",
    "do_pan_and_scan",
    "image_grid_pinpoints",
    "min_pixels",
    "max_patches",
    "pad_size",
)


@dataclass(frozen=True)
class ImageRecipe:
    """How a picture becomes a tensor; sizes in pixels. `None` turns a step off."""

    size: tuple[int, int] | None  # (height, width); the picture is squeezed into it
    shortest_edge: int | None  # used when `size` is None; keeps the aspect ratio
    crop: tuple[int, int] | None  # (height, width), centred
    resample: int
    rescale_factor: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    square: tuple[int, ...] | None = None  # colour that pads the picture to a square, before all else

    @classmethod
    def from_config(cls, config: Mapping[str, Any], field: str = "preprocessor_config.json") -> ImageRecipe:
        """From `preprocessor_config.json` (or the flat `image` entry of `topovlm_runtime.json`).

        Raises `InputError` for a step outside of padding, resize, centre crop, rescale and normalise.
        """
        for step in _UNKNOWN_STEPS:
            if config.get(step):
                rule = "is an image step that this runtime does not do"
                raise InputError(explain(f"{field}: {step}", config[step], rule))
        size = config.get("size", {k: config[k] for k in ("height", "width") if k in config})
        if isinstance(size, int):
            size = {"shortest_edge": size}
        size = {key: value for key, value in (size or {}).items() if value is not None}
        resize = config.get("do_resize", True)
        if resize and not ({"height", "width"} <= size.keys() or size.keys() == {"shortest_edge"}):
            rule = "must give height and width, or shortest_edge"
            raise InputError(explain(f"{field}: size", size, rule))
        exact = (int(size["height"]), int(size["width"])) if resize and "height" in size else None
        edge = int(size["shortest_edge"]) if resize and exact is None else None
        finish = Finish.from_config(config, field)
        return cls(
            size=exact,
            shortest_edge=edge,
            crop=_crop_size(config),
            resample=int(config.get("resample", Image.Resampling.BICUBIC)),
            rescale_factor=finish.rescale_factor,
            mean=finish.mean,
            std=finish.std,
            square=_square(config, finish),
        )


def _square(config: Mapping[str, Any], finish: Finish) -> tuple[int, ...] | None:
    """LLaVA's own processor pads to a square; the others pad a batch to one size, which pictures have."""
    own = str(config.get("image_processor_type", "")).startswith("LlavaImageProcessor")
    return background(config.get("image_mean") or finish.mean) if config.get("do_pad") and own else None


def _crop_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    crop = config.get("crop_size")
    if not config.get("do_center_crop") or crop is None:
        return None
    if isinstance(crop, int):
        return crop, crop
    return int(crop["height"]), int(crop["width"])


def to_pixels(image: Image.Image, recipe: ImageRecipe) -> np.ndarray:
    """One picture -> float32 `[3, H, W]`."""
    image = to_rgb(image)
    if recipe.square is not None:
        side = max(image.size)
        image = padded(image, (side, side), recipe.square)
    target = recipe.size
    if recipe.shortest_edge is not None:
        target = keep_aspect(image.height, image.width, recipe.shortest_edge)
    if target is not None:
        image = resized(image, target, recipe.resample)
    pixels = np.asarray(image)
    if recipe.crop is not None:
        pixels = centre_crop(pixels, *recipe.crop)
    return Finish(recipe.rescale_factor, recipe.mean, recipe.std)(pixels)
