"""JSON text as plain data: the one parser for JSON that others wrote.

Refused, beside what is no JSON: NaN and infinities (also a number that becomes one), integers longer than
`MOST_DIGITS`, more levels than `MOST_LEVELS`, half a surrogate pair (it cannot be written again), and, where
asked, a key that stands twice in an object. What comes back can be walked, compared and stored safely.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MOST_DIGITS = 40  # tokenizers write 10**30 for "no limit"
MOST_LEVELS = 100
_MARK = "\ufeff"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class NotJsonError(ValueError):
    """`str()` is the rule that is broken, to stand behind what was read: "is not JSON (... at line 3)"."""


def parse(text: str | bytes, *, unique_keys: bool = False, constants: bool = False) -> Any:
    """Plain data. `constants`: NaN and infinities are taken, as Python writes them. Raises `NotJsonError` and
    nothing else."""
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        if text.startswith(_MARK):
            raise NotJsonError("begins with a byte order mark: save it as UTF-8 without one")
        value = json.loads(
            text,
            parse_constant=float if constants else _constant,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_unique if unique_keys else None,
        )
        _check_levels(value)
    except UnicodeDecodeError as error:
        raise NotJsonError(f"is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise NotJsonError(f"is not JSON ({error.msg} at {place})") from None
    except (RecursionError, MemoryError):
        raise NotJsonError("is nested too deeply") from None
    if _SURROGATE.search(text):
        _check_characters(value, "")
    return value


def half_character(text: str) -> str | None:
    """The first half of a surrogate pair in a text, as `\\ud83d`; None in sound text."""
    found = re.search("[\ud800-\udfff]", text)
    return f"\\u{ord(found[0]):04x}" if found else None


def _constant(name: str) -> float:
    raise NotJsonError(f"is not JSON ({name} is no number there)")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise NotJsonError(f"holds an integer of {len(text)} digits; at most {MOST_DIGITS} are read")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJsonError(f"holds a number that is too large ({text[:MOST_DIGITS]})")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotJsonError(f"has the key {twice!r} twice in one object")
    return found


def _check_levels(value: Any) -> None:
    """Level by level, not by recursion. The parser's own limit differs between releases of Python."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [
            part
            for held in level
            if isinstance(held, (dict, list))
            for part in (held.values() if isinstance(held, dict) else held)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise NotJsonError("is nested too deeply")


def _check_characters(value: Any, place: str) -> None:
    """At most `MOST_LEVELS` deep: `place` is the path of keys to `value`."""
    if isinstance(value, str):
        half = half_character(value)
        if half:
            where = f"{place} holds" if place else "holds"
            raise NotJsonError(f"{where} half of a surrogate pair ({half}), which is no character")
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_characters(key, f"{place}: a key")
            _check_characters(part, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check_characters(part, f"{place}[{number}]")
