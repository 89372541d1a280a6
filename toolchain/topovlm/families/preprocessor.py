"""What an image processor's file says of sizes: read as transformers reads it, refused where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.family import Family
from topovlm.families.limits import MOST_AREA_PX, MOST_SIDE_PX, check_limits

# Fields that hold sizes: a number for all sides, a pair, or the sides by name.
_SIZES = ("size", "crop_size", "max_image_size", "pad_size", "image_size")
_SIDES = ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width")
_AREAS = ("shortest_edge", "longest_edge")
_REMEDY = "Use the model's own processor"


def size_of(processor: ModelConfig) -> ModelConfig:
    """The field `size` by the names of its sides; empty where it is a number for all of them, or absent."""
    held = processor.get("size")
    return held if isinstance(held, Mapping) else {}


def check_preprocessor(processor: ModelConfig, family: Family | None, file: str) -> None:
    """Raise `InputError` naming file and field for sizes, means and factors that no picture can be given.

    Families whose pictures have bounds of their area call these, too, shortest and longest edge.
    """
    check_limits(processor, file)
    areas = bool(family and family.tokens and family.tokens.min_pixels)
    for field in _SIZES:
        for name, value in _sides(processor.get(field), f"{file}: {field}"):
            most: float = MOST_AREA_PX if areas and name in _AREAS else MOST_SIDE_PX
            if areas and name == "longest_edge":  # makes no picture larger
                most = math.inf
            _check_size(f"{file}: {field}.{name}".rstrip("."), value, most)
    for field in ("min_pixels", "max_pixels"):
        most = MOST_AREA_PX if field == "min_pixels" else math.inf
        _check_size(f"{file}: {field}", processor.get(field), most)
    _check_values(processor, "image_mean", file, zero=True)
    _check_values(processor, "image_std", file, zero=False)
    _check_values(processor, "rescale_factor", file, zero=False)


def _sides(value: Any, field: str) -> list[tuple[str, Any]]:
    if value is None or isinstance(value, (int, float)):
        return [("", value)]
    if isinstance(value, (list, tuple)) and len(value) <= 2:
        return [(f"[{place}]", side) for place, side in enumerate(value)]
    if isinstance(value, Mapping):
        return [(str(name), side) for name, side in value.items() if name in _SIDES]
    raise InputError(explain(field, value, "must be a number of px, or height and width", _REMEDY))


def _check_size(field: str, value: Any, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(explain(field, value, "must be a whole number of px, at least 1", _REMEDY))
    if value > most:
        raise InputError(explain(field, value, f"must be at most {most:.0f} px", _REMEDY))


def _check_values(processor: ModelConfig, field: str, file: str, *, zero: bool) -> None:
    held = processor.get(field)
    for value in held if isinstance(held, (list, tuple)) else [held]:
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or (value == 0 and not zero):
            rule = "must hold numbers" if zero else "must hold numbers other than 0"
            raise InputError(explain(f"{file}: {field}", held, rule, _REMEDY))
