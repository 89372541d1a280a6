"""TOML files as plain data (the standard library reads them from Python 3.11 on)."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, decoded, read_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_BYTES = MEBIBYTE // 4  # ours have some kilobytes
_MOST_LEVELS = 50
_MOST_PARTS = 200  # of a key: n parts take the parser n * n steps
_LARGEST = 2**63  # TOML's own integers


def parse_toml(text: str, *, field: str, name: str) -> dict[str, object]:
    """`field` and `name` say what is read, for the error.

    Raises `InputError` for what is not TOML, and for NaN, infinities, integers of more than 64 bits and deep
    nesting, none of which a file of ours has a use for.
    """
    try:
        if any(line.partition("=")[0].count(".") > _MOST_PARTS for line in text.split("\n")):
            raise ValueError(f"a key has more than {_MOST_PARTS} parts")
        document: dict[str, object] = tomllib.loads(text)
        _check(document, 0)
    except tomllib.TOMLDecodeError as error:
        raise InputError(explain(field, name, f"is not TOML ({error})")) from None
    except ValueError as error:  # an integer too long to be converted, or a rule of ours
        raise InputError(explain(field, name, f"is refused: {error}")) from None
    except RecursionError:
        raise InputError(explain(field, name, "is nested too deeply")) from None
    return document


def _check(value: object, level: int) -> None:
    """Raises ValueError naming the rule that a value breaks."""
    if level > _MOST_LEVELS:
        raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
    if isinstance(value, dict):
        for part in value.values():
            _check(part, level + 1)
    elif isinstance(value, list):
        for part in value:
            _check(part, level + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no figure")
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise ValueError("it holds an integer of more than 64 bits")


def read_toml(path: Path, *, field: str) -> dict[str, object]:
    """Raises `InputError` naming the file when it is absent, unreadable or not TOML."""
    data = read_plain(path, field=field, most_bytes=_MOST_BYTES)
    return parse_toml(decoded(data, field=field, name=str(path), mark=True), field=field, name=str(path))
