"""TOML files as plain data."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, decoded, read_plain

_MOST_BYTES = MEBIBYTE // 4  # ours have some kilobytes
_MOST_LEVELS = 50
_MOST_PARTS = 200  # of a key: n parts take the parser n * n steps
_LARGEST = 2**63  # TOML's own integers
_TOO_LONG = "holds an integer of more than 64 bits"
_TOO_DEEP = "is nested too deeply"


def parse_toml(text: str, *, field: str, name: str) -> dict[str, object]:
    """`field` and `name` say what is read, for the error.

    Raises `InputError` for what is not TOML, and for NaN, infinities, integers of more than 64 bits and deep
    nesting, none of which a file of ours has a use for.
    """
    if any(line.partition("=")[0].count(".") > _MOST_PARTS for line in text.split("\n")):
        raise InputError(explain(field, name, f"has a key of more than {_MOST_PARTS} parts"))
    try:
        document: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(explain(field, name, f"is not TOML ({error})")) from None
    except ValueError:  # Python converts no integer of more than 4300 digits
        raise InputError(explain(field, name, _TOO_LONG)) from None
    except RecursionError:
        raise InputError(explain(field, name, _TOO_DEEP)) from None
    rule = _broken_rule(document, 0)
    if rule:
        raise InputError(explain(field, name, rule))
    return document


def _broken_rule(value: object, level: int) -> str:
    """What is wrong with a value; empty for a sound one."""
    if level > _MOST_LEVELS:
        return _TOO_DEEP
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        return next((rule for part in parts if (rule := _broken_rule(part, level + 1))), "")
    if isinstance(value, float) and not math.isfinite(value):
        return f"holds {value}, which is no figure"
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return _TOO_LONG
    return ""


def read_toml(path: Path, *, field: str) -> dict[str, object]:
    """Raises `InputError` naming the file when it is absent, unreadable or not TOML."""
    data = read_plain(path, field=field, most_bytes=_MOST_BYTES)
    return parse_toml(decoded(data, field=field, name=str(path), mark=True), field=field, name=str(path))
