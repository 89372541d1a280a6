"""Steps that strategies share (resize, pad, crop, rescale, normalise), as transformers' Pillow backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.pictures import MOST_PIXELS

# What the image processors take where their file states none.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Finish:
    """Grey levels -> what the tower reads. `None` turns a step off."""

    rescale_factor: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        field: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Finish:
        """`mean`, `std`: where the file leaves them out. Raises `InputError` when nothing states them."""
        mean = config.get("image_mean", config.get("mean")) or mean
        std = config.get("image_std", config.get("std")) or std
        normalise = config.get("do_normalize", True)
        if normalise and (mean is None or std is None):
            raise InputError(explain(f"{field}: image_mean", mean, "normalisation needs a mean and a std"))
        factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else None
        return cls(
            rescale_factor=factor,
            mean=_three(mean) if normalise else None,
            std=_three(std) if normalise else None,
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[H, W, 3]` -> float32 `[3, H, W]`."""
        # In double precision first: the oracle rounds once, after the product.
        scale = 1.0 if self.rescale_factor is None else self.rescale_factor
        values = (pixels.astype(np.float64) * scale).astype(np.float32)
        if self.mean is not None and self.std is not None:
            mean, std = (np.asarray(numbers, np.float32) for numbers in (self.mean, self.std))
            values = (values - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1))


def _three(values: Any) -> tuple[float, ...]:
    """One number stands for all three channels."""
    return tuple(map(float, values)) if isinstance(values, Sequence) else (float(values),) * 3


def resized(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    """`size`: (height, width). Raises `InputError` for one that no picture has."""
    if (image.height, image.width) == size:
        return image
    _check_size(size, (image.height, image.width))
    return image.resize((size[1], size[0]), resample=Image.Resampling(resample))


def _check_size(size: tuple[int, int], old: tuple[int, int]) -> None:
    """Long thin pictures that keep their shape, or are padded to a square, become larger than memory."""
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        rule = f"would become {size[0]}x{size[1]}; a picture may have 1 to {MOST_PIXELS >> 20} Mi pixels"
        raise InputError(explain("picture", f"{old[0]}x{old[1]}", rule, "Cut it"))


def keep_aspect(height: int, width: int, shortest_edge: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `shortest_edge`; the longer one is truncated, not rounded."""
    short, long = min(height, width), max(height, width)
    scaled = int(shortest_edge * long / short)
    return (scaled, shortest_edge) if width <= height else (shortest_edge, scaled)


def centre_crop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[h, w, c]` -> `[height, width, c]`, padded with zeros (black) where the picture is smaller."""
    have_h, have_w = pixels.shape[:2]
    pad_h, pad_w = max(0, height - have_h), max(0, width - have_w)
    if pad_h or pad_w:
        before_h, before_w = -(-pad_h // 2), -(-pad_w // 2)  # the odd pixel goes before, as in the oracle
        pixels = np.pad(pixels, ((before_h, pad_h - before_h), (before_w, pad_w - before_w), (0, 0)))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def padded(image: Image.Image, size: tuple[int, int], colour: tuple[int, ...]) -> Image.Image:
    """In the middle of a canvas of (height, width); the odd pixel goes below and to the right."""
    if (image.height, image.width) == size:
        return image
    _check_size(size, (image.height, image.width))
    canvas = Image.new("RGB", (size[1], size[0]), colour)
    canvas.paste(image, ((size[1] - image.width) // 2, (size[0] - image.height) // 2))
    return canvas


def background(mean: Sequence[float] | None) -> tuple[int, ...]:
    """The colour that a mean stands for, as LLaVA pads with it."""
    return tuple(int(value * 255) for value in mean) if mean else (0, 0, 0)


def cut(image: Image.Image, rows: int, columns: int, side: int) -> list[np.ndarray]:
    """Square tiles, uint8 `[side, side, 3]` each, row by row."""
    pixels = np.asarray(image)
    return [
        pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
