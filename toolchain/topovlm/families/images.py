"""An image processor's settings as other people's files have them: kinds and bounds looked at once, for all.

Whoever reads them later (plan, runtime, transformers) is given numbers of the right kind, and none that asks
for more memory than a picture takes. A `size` may be one number: spelt out here as transformers does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.limits import MOST_AREA_PX, MOST_CANVASES, MOST_TILES, check_limits

MOST_SIDE = 8192  # px
_MOST_AREA = 1 << 27  # px; a lower bound, which enlarges pictures, may be MOST_AREA_PX
_SIZES = ("size", "crop_size", "max_image_size", "pad_size", "tile_size")
# Where a video processor's settings lie, and under which key, in transformers' own order.
_VIDEOS = (("processor_config.json", "video_processor"), ("video_preprocessor_config.json", None))
_SMALL = ("patch_size", "merge_size", "temporal_patch_size")
_TILES = ("min_patches", "max_patches", "max_num_tiles", "pan_and_scan_max_num_crops")
# One number is a square for these, the shortest edge for all others.
_SQUARE = ("Gemma3", "GotOcr2", "Idefics3", "Ovis2", "Pixtral", "SmolVLM")


def checked_images(images: ModelConfig, file: str) -> dict[str, Any]:
    """The settings with every size spelt out. Raises `InputError` naming `file` and field."""
    found = dict(images)
    for name, value in found.items():
        if value is not None:
            _check(images, name, value, f"{file}: {name}")
    for name in ("size", "crop_size"):
        side = found.get(name)
        if isinstance(side, (int, float)):
            square = name == "crop_size" or _kind(images).startswith(_SQUARE)
            keys = ("height", "width") if square else ("shortest_edge",)
            found[name] = dict.fromkeys(keys, int(side))
    return found


def video_settings(held: Callable[[str], ModelConfig | None]) -> dict[str, Any]:
    """The video processor's settings; empty where they are not stated apart from the image processor's.

    `held`: a file's name -> its JSON object, None or empty where there is none. Raises `InputError` naming
    file and field.
    """
    for name, key in _VIDEOS:
        content = held(name) or {}
        settings = content if key is None else content.get(key)
        if isinstance(settings, Mapping):
            check_limits(settings, name)
            return checked_images(settings, name if key is None else f"{name}: {key}")
    return {}


def _kind(images: ModelConfig) -> str:
    return str(images.get("image_processor_type") or "")


def _check(images: ModelConfig, name: str, value: Any, field: str) -> None:
    if name.startswith("do_"):
        if not isinstance(value, bool):
            raise InputError(explain(field, value, "must be true or false"))
    elif name in _SIZES:
        _check_size(value, field, areas=name == "size" and _counts_areas(images))
    elif name in _SMALL:
        for part in value.values() if isinstance(value, Mapping) else [value]:
            _whole(part, field, 1024)
    elif name in _TILES:
        _whole(value, field, MOST_TILES)
    elif name in ("min_pixels", "max_pixels"):
        _whole(value, field, MOST_AREA_PX if name == "min_pixels" else _MOST_AREA)
    elif name in ("image_mean", "image_std", "mean", "std"):
        _check_channels(value, field, positive=name.endswith("std"))
    elif name == "resample":
        _whole(value, field, 5, least=0)
    elif name == "rescale_factor":
        _number(value, field, positive=True)
    elif name == "image_grid_pinpoints":
        _check_canvases(value, field)


def _counts_areas(images: ModelConfig) -> bool:
    """Whether the edges of `size` are areas in px: those of processors that keep a picture's own size."""
    return "merge_size" in images or "temporal_patch_size" in images


def _check_size(value: Any, field: str, *, areas: bool) -> None:
    if not isinstance(value, Mapping):
        _whole(value, field, MOST_SIDE)
        return
    for key, side in value.items():
        if side is None:
            continue
        edge = key in ("shortest_edge", "longest_edge")
        area = MOST_AREA_PX if key == "shortest_edge" else _MOST_AREA
        _whole(side, f"{field}.{key}", area if areas and edge else MOST_SIDE)


def _check_channels(value: Any, field: str, *, positive: bool) -> None:
    """One number for all channels, or one for each."""
    if isinstance(value, (list, tuple)) and len(value) != 3:
        rule = f"must be one number, or three: red, green, blue; these are {len(value)}"
        raise InputError(explain(field, list(value)[:4], rule))
    for part in value if isinstance(value, (list, tuple)) else [value]:
        _number(part, field, positive=positive)


def _check_canvases(value: Any, field: str) -> None:
    pairs = isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value
    )
    if not pairs or not 0 < len(value) <= MOST_CANVASES:
        rule = f"must be a list of (height, width), at most {MOST_CANVASES}"
        raise InputError(explain(field, type(value).__name__, rule))
    for pair in value:
        for side in pair:
            _whole(side, field, MOST_SIDE)


def _whole(value: Any, field: str, most: int, least: int = 1) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value not in range(least, most + 1):  # NaN is in none
        rule = f"must be a whole number from {least} to {most}"
        raise InputError(explain(field, _shown(value), rule, "Use the model's own image processor"))


def _number(value: Any, field: str, *, positive: bool) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or abs(value) > 1e6 or (positive and value <= 0):
        rule = "must be a finite number" + (" above 0" if positive else "")
        raise InputError(explain(field, _shown(value), rule, "Use the model's own image processor"))


def _shown(value: Any) -> Any:
    """Numbers and short words as they are, of anything else its kind."""
    short = isinstance(value, (int, float)) or (isinstance(value, str) and len(value) < 40)
    return value if short or value is None else type(value).__name__
