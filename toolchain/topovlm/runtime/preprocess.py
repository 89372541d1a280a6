"""Images -> the `pixel_values` that the checkpoint's own processor would make, with numpy and Pillow alone.

Facts come from the exported `preprocessor_config.json`; steps and their order (convert, resize, crop,
rescale, normalise) are those of the Hugging Face image processors of the CLIP / SigLIP kind,
whose Pillow backend is the oracle in the tests. A step that we do not know is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.pictures import to_rgb

_UNKNOWN_STEPS = (
    "do_image_splitting",
    "do_pan_and_scan",
    "image_grid_pinpoints",
    "min_pixels",
    "max_patches",
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

    @classmethod
    def from_config(cls, config: dict[str, Any], field: str = "preprocessor_config.json") -> ImageRecipe:
        """From `preprocessor_config.json` (or the flat `image` entry of `topovlm_runtime.json`).

        Raises `InputError` for a step outside of resize, centre crop, rescale and normalise.
        """
        for step in _UNKNOWN_STEPS:
            if config.get(step):
                rule = "is an image step that this runtime does not do"
                raise InputError(explain(f"{field}: {step}", config[step], rule))
        if config.get("do_pad"):
            raise InputError(
                explain(f"{field}: do_pad", True, "padding is a step that this runtime does not do")
            )
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
        normalise = config.get("do_normalize", True)
        mean = config.get("image_mean", config.get("mean"))
        std = config.get("image_std", config.get("std"))
        if normalise and (mean is None or std is None):
            raise InputError(explain(f"{field}: image_mean", mean, "normalisation needs a mean and a std"))
        return cls(
            size=exact,
            shortest_edge=edge,
            crop=_crop_size(config),
            resample=int(config.get("resample", Image.Resampling.BICUBIC)),
            rescale_factor=float(config.get("rescale_factor", 1 / 255))
            if config.get("do_rescale", True)
            else None,
            mean=tuple(map(float, mean or ())) if normalise else None,
            std=tuple(map(float, std or ())) if normalise else None,
        )


def _crop_size(config: dict[str, Any]) -> tuple[int, int] | None:
    crop = config.get("crop_size")
    if not config.get("do_center_crop") or crop is None:
        return None
    if isinstance(crop, int):
        return crop, crop
    return int(crop["height"]), int(crop["width"])


def to_pixels(image: Image.Image, recipe: ImageRecipe) -> np.ndarray:
    """One picture -> float32 `[3, H, W]`."""
    image = to_rgb(image)
    target = recipe.size
    if recipe.shortest_edge is not None:
        target = _keep_aspect(image.height, image.width, recipe.shortest_edge)
    if target is not None and (image.height, image.width) != target:
        image = image.resize((target[1], target[0]), resample=Image.Resampling(recipe.resample))
    pixels = np.asarray(image)
    if recipe.crop is not None:
        pixels = _centre_crop(pixels, *recipe.crop)
    # In double precision first: the oracle rounds once, after the product.
    scale = 1.0 if recipe.rescale_factor is None else recipe.rescale_factor
    values = (pixels.astype(np.float64) * scale).astype(np.float32)
    if recipe.mean is not None and recipe.std is not None:
        mean, std = (np.asarray(numbers, np.float32) for numbers in (recipe.mean, recipe.std))
        values = (values - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def batch_pixels(images: Sequence[Image.Image], recipe: ImageRecipe) -> np.ndarray:
    """Pictures -> float32 `[n, 3, H, W]`; `InputError` when the recipe leaves their sizes different."""
    tensors = [to_pixels(image, recipe) for image in images]
    shapes = sorted({tensor.shape for tensor in tensors})
    if len(shapes) > 1:
        raise InputError(explain("images", shapes, "must come out of the image processor with one shape"))
    return np.stack(tensors)


def _keep_aspect(height: int, width: int, shortest_edge: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `shortest_edge`; the longer one is truncated, not rounded."""
    short, long = min(height, width), max(height, width)
    scaled = int(shortest_edge * long / short)
    return (scaled, shortest_edge) if width <= height else (shortest_edge, scaled)


def _centre_crop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[h, w, c]` -> `[height, width, c]`, padded with zeros (black) where the picture is smaller."""
    have_h, have_w = pixels.shape[:2]
    pad_h, pad_w = max(0, height - have_h), max(0, width - have_w)
    if pad_h or pad_w:
        before_h, before_w = -(-pad_h // 2), -(-pad_w // 2)  # the odd pixel goes before, as in the oracle
        pixels = np.pad(pixels, ((before_h, pad_h - before_h), (before_w, pad_w - before_w), (0, 0)))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
