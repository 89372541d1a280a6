"""Typed files: what one stage, machine or run hands to the next, read back or refused in one sentence.

A record is a frozen `msgspec.Struct` (or a dataclass). Reading never guesses: a field of the wrong type, a
missing one, or another schema version raises `InputError` with the file, the field and the remedy.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any, TypeVar

import msgspec

from topovlm import json_text
from topovlm.artifacts import write_bytes
from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, read_plain

T = TypeVar("T")
_MOST_BYTES = 64 * MEBIBYTE


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every record that is stored: immutable, keyword-only; unknown fields are passed over."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what people write by hand or other tools must agree on: unknown fields are refused."""


class _Version(msgspec.Struct):
    """The one field that has to be read before the rest can be understood."""

    schema: int


def _plain_path(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be stored")


def plain(record: object) -> Any:
    """JSON-able form of a record, as `--json` prints it and as it would be read back: lists, not tuples."""
    return msgspec.json.decode(msgspec.json.encode(record, enc_hook=_plain_path))


def encode(record: object) -> bytes:
    """Indented UTF-8 JSON."""
    return msgspec.json.format(msgspec.json.encode(record, enc_hook=_plain_path), indent=1) + b"\n"


def decode(
    data: bytes | str, kind: type[T], *, field: str, name: str, remedy: str = "", schema: int | None = None
) -> T:
    """JSON -> a record of type `kind`. `field` and `name` say what it is for the error.

    With `schema` the document's own `schema` must be that number. Raises `InputError`, also for what
    `json_text` refuses.
    """
    try:
        json_text.parse(data)
    except json_text.NotJsonError as error:
        raise InputError(explain(field, name, f"cannot be used: it {error}", remedy)) from None
    try:
        if schema is not None:
            found = msgspec.json.decode(data, type=_Version).schema
            if found != schema:
                rule = f"has schema {found}, this topovlm reads {schema}"
                raise InputError(explain(field, name, rule, remedy))
        return msgspec.json.decode(data, type=kind, strict=True)
    except (msgspec.DecodeError, OverflowError) as error:
        raise InputError(explain(field, name, f"cannot be used: {error}", remedy)) from None


def convert(value: object, kind: type[T], *, field: str, name: str, remedy: str = "") -> T:
    """Plain data (from TOML, from JSON) -> a record. Raises `InputError` naming what does not fit."""
    try:
        return msgspec.convert(value, type=kind)
    except OverflowError as error:  # an integer where a float belongs
        raise InputError(explain(field, name, f"cannot be used: {error}", remedy)) from None
    except msgspec.ValidationError as error:
        found = _found(value, str(error).partition(" - at `$")[2].rstrip("`"))
        raise InputError(explain(field, name, f"cannot be used: {error}{found}", remedy)) from None


def _found(value: Any, path: str) -> str:
    """What stands at msgspec's `path` (`.gpu.sm`, `.mode[0].name`) where that is a value: `: 'eight'`."""
    for key, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return ""
    return f": {value!r}" if path and not isinstance(value, (dict, list)) else ""


def read(path: Path, kind: type[T], *, field: str, remedy: str = "", schema: int | None = None) -> T:
    """A record from a JSON file. Raises `InputError` naming the file."""
    data = read_plain(path, field=field, most_bytes=_MOST_BYTES, remedy=remedy)
    return decode(data, kind, field=field, name=str(path), remedy=remedy, schema=schema)


def write(path: Path, record: object) -> None:
    """Write a record whole or not at all. Raises `InputError` for the disk's own refusals."""
    write_bytes(path, encode(record))
