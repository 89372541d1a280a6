"""What configurations say of canvases and tiles that pictures are cut to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.family import Tokens


def pinpoints(whole: ModelConfig, rules: Tokens) -> tuple[tuple[int, int], ...]:
    """(height, width) in px of the canvases that a picture may be laid on. Raises `InputError`."""
    stated = whole.get("image_grid_pinpoints")
    if stated is not None and rules.layout == "anyres":
        return tuple(_pair(canvas) for canvas in _listed(stated) or [stated])
    sides = [rules.pinpoints_unit * (step + 1) for step in range(rules.pinpoints_count)]
    return tuple((height, width) for height in sides for width in sides)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _pair(canvas: Any) -> tuple[int, int]:
    """(height, width) of one canvas. Raises `InputError`."""
    if not isinstance(canvas, (list, tuple)) or len(canvas) != 2 or not all(map(_is_whole, canvas)):
        rule = "must hold pairs of height and width in px"
        raise InputError(explain("config.json: image_grid_pinpoints", canvas, rule))
    return canvas[0], canvas[1]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def max_tiles(whole: ModelConfig, processor: ModelConfig, rules: Tokens) -> int:
    """Most tiles of one picture; 0 where nothing bounds them."""
    if rules.tiles_field and processor.get(rules.tiles_field) is False:
        return 1
    if rules.max_tiles:
        return int(processor.get(rules.max_tiles_field) or rules.max_tiles)
    aspect = str(whole.get("vision_aspect_ratio", ""))
    return int(aspect.rpartition("_")[2]) if aspect.startswith("anyres_max_") else 0
