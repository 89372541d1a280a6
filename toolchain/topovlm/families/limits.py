"""How large a number in somebody's configuration may be: beyond that it is a mistake, or meant to do harm."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.records import Strict, convert
from topovlm.toml import read_toml

MOST_SIDE_PX = 4096  # one side of what a processor makes of a picture, or of one tile
MOST_AREA_PX = MOST_SIDE_PX**2
MOST_TILES = 128
MOST_CANVASES = 1024  # choices among which a picture's canvas is looked for
_LARGEST = 2**63  # whole numbers of any field: torch and numpy count with 64 bits
_DATA = Path(__file__).with_name("data") / "lists" / "limits.toml"


class _Limit(Strict, frozen=True, kw_only=True):
    what: str
    most: int
    fields: tuple[str, ...]


class _Limits(Strict, frozen=True, kw_only=True):
    limits: tuple[_Limit, ...]


@functools.lru_cache(maxsize=1)
def _by_field() -> dict[str, _Limit]:
    content = convert(read_toml(_DATA, field="limits"), _Limits, field="limits", name=str(_DATA))
    return {name: limit for limit in content.limits for name in limit.fields}


def check_limits(content: ModelConfig, file: str = "config.json") -> None:
    """Raise `InputError` naming file and field for a number that no model states, at any depth."""
    limits = _by_field()
    for path, name, number in _numbers(content):
        limit = limits.get(name)
        if limit is not None and isinstance(number, float) and not math.isfinite(number):
            rule = "is not a finite number"  # elsewhere infinity may mean: no limit
        elif isinstance(number, int) and abs(number) >= _LARGEST:
            rule = "is larger than any number of a model"
        elif limit is not None and number > limit.most:
            rule = f"must be at most {limit.most}: no model has so many {limit.what}"
        else:
            continue
        shown = number if abs(number) < _LARGEST else "a huge number"
        raise InputError(explain(f"{file}: {path}", shown, rule, "Is this a model's own file?"))


def _numbers(content: ModelConfig) -> Iterator[tuple[str, str, int | float]]:
    """(path, field, number) of all numbers; those in lists belong to the list's field. No recursion."""
    waiting: list[tuple[str, str, Any]] = [("", "", content)]
    while waiting:
        path, name, value = waiting.pop()
        if isinstance(value, Mapping):
            before = f"{path}." if path else ""
            waiting += [(f"{before}{key}", str(key), inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(path, name, inner) for inner in value]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield path, name, value
