"""Files that other people made: read whole, bounded, and never anything but a regular file.

A named pipe, a device or a socket in the place of a file would wait for ever or never end; it is refused
before it is opened, since opening some of them does something.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from topovlm.errors import InputError, explain

MEBIBYTE = 2**20
_KINDS = (
    (stat.S_ISDIR, "is a folder", "Name a file"),
    (stat.S_ISFIFO, "is a pipe, not a file", "Write it to a file first"),
    (stat.S_ISSOCK, "is a socket, not a file", ""),
    (stat.S_ISCHR, "is a device, not a file", ""),
    (stat.S_ISBLK, "is a device, not a file", ""),
)


class Stored:
    """A file inside a larger one (a picture in a cell of a table), read when it is needed. Hashable."""

    sha256: str  # of its bytes

    @property
    def name(self) -> str:
        """File and place in it, for messages."""
        raise NotImplementedError

    def read(self) -> bytes:
        """All of it. Raises `InputError` naming it."""
        raise NotImplementedError

    def absolute(self) -> Stored:
        """The same from any working directory."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.name


def open_plain(path: str | Path, *, field: str = "file", remedy: str = "") -> BinaryIO:
    """A regular file, opened to read its bytes. Raises `InputError` naming what is there instead."""

    def refused(rule: str, other: str = "") -> InputError:
        return InputError(explain(field, str(path), rule, remedy or other))

    if "\0" in str(path):
        raise refused("is no path: it holds a NUL character")
    try:
        _refuse_other_kinds(os.stat(path).st_mode, refused)
        # Another file may have taken the name since: without waiting, and looked at again.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            _refuse_other_kinds(os.fstat(handle).st_mode, refused)
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise
    except FileNotFoundError:
        raise refused("does not exist") from None
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror})") from None


def _refuse_other_kinds(mode: int, refused: Callable[[str, str], InputError]) -> None:
    for is_kind, rule, other in _KINDS:
        if is_kind(mode):
            raise refused(rule, other)


def read_plain(
    path: str | Path, *, field: str = "file", most_bytes: int = 256 * MEBIBYTE, remedy: str = ""
) -> bytes:
    """All bytes of a regular file of at most `most_bytes`. Raises `InputError` naming it."""
    try:
        with open_plain(path, field=field, remedy=remedy) as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise InputError(explain(field, str(path), f"cannot be read ({error.strerror})", remedy)) from None
    if len(data) > most_bytes:
        rule = f"has more than {most_bytes // MEBIBYTE} MiB, the most that is read of such a file"
        raise InputError(explain(field, str(path), rule, remedy))
    return data


def decoded(data: bytes, *, field: str, name: str, remedy: str = "", mark: bool = False) -> str:
    """The bytes as UTF-8 text; `mark`: a byte order mark in front is passed over. Raises `InputError`."""
    try:
        return data.decode("utf-8-sig" if mark else "utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        rule = f"is not UTF-8 text (byte {error.start}, line {line})"
        raise InputError(explain(field, name, rule, remedy)) from None
