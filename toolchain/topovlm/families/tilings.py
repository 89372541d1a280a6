"""What configurations say of canvases and tiles that pictures are cut to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.family import Tokens
from topovlm.families.limits import MOST_AREA_PX, MOST_CANVASES, MOST_TILES


def pinpoints(whole: ModelConfig, rules: Tokens) -> tuple[tuple[int, int], ...]:
    """(height, width) in px of the canvases that a picture may be laid on. Raises `InputError`."""
    stated = whole.get("image_grid_pinpoints")
    if stated is not None and rules.layout == "anyres":
        canvases = _listed(stated) or [stated]
        if len(canvases) > MOST_CANVASES:
            rule = f"must list at most {MOST_CANVASES} canvases"
            raise InputError(explain("config.json: image_grid_pinpoints", len(canvases), rule))
        return tuple(map(_pair, canvases))
    sides = [rules.pinpoints_unit * (step + 1) for step in range(rules.pinpoints_count)]
    return tuple((height, width) for height in sides for width in sides)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _pair(canvas: Any) -> tuple[int, int]:
    """(height, width) of one canvas. Raises `InputError`."""
    if not isinstance(canvas, (list, tuple)) or len(canvas) != 2 or not all(map(_is_whole, canvas)):
        rule = "must hold pairs of height and width in px"
        raise InputError(explain("config.json: image_grid_pinpoints", canvas, rule))
    if canvas[0] * canvas[1] > MOST_AREA_PX:
        rule = f"is a canvas of more than {MOST_AREA_PX} px"
        raise InputError(explain("config.json: image_grid_pinpoints", canvas, rule))
    return canvas[0], canvas[1]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def max_tiles(whole: ModelConfig, processor: ModelConfig, rules: Tokens) -> int:
    """Most tiles of one picture; 0 where nothing bounds them. Raises `InputError`."""
    if rules.tiles_field and processor.get(rules.tiles_field) is False:
        return 1
    if rules.max_tiles:
        field, stated = rules.max_tiles_field, processor.get(rules.max_tiles_field)
        if not stated:
            return rules.max_tiles
        if not _is_whole(stated) or stated > MOST_TILES:
            rule = f"must be a whole number of at most {MOST_TILES} tiles"
            raise InputError(explain(f"preprocessor_config.json: {field}", stated, rule))
        return int(stated)
    aspect = str(whole.get("vision_aspect_ratio", ""))
    count = aspect.removeprefix("anyres_max_")
    return int(count) if count != aspect and re.fullmatch(r"[1-9][0-9]{0,4}", count) else 0
