"""TOML files as plain data (the standard library reads them from Python 3.11 on)."""

from __future__ import annotations

import sys
from pathlib import Path

from topovlm.errors import InputError, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_toml(text: str, *, field: str, name: str) -> dict[str, object]:
    """`field` and `name` say what is read, for the error. Raises `InputError` for what is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(explain(field, name, f"is not TOML ({error})")) from None


def read_toml(path: Path, *, field: str) -> dict[str, object]:
    """Raises `InputError` naming the file when it is absent, unreadable or not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(explain(field, str(path), "does not exist")) from None
    except UnicodeDecodeError as error:
        raise InputError(explain(field, str(path), f"is not TOML ({error})")) from None
    except OSError as error:
        raise InputError(explain(field, str(path), f"cannot be read ({error.strerror})")) from None
    return parse_toml(text, field=field, name=str(path))
