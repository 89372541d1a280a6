"""Files that are either whole or absent: hashing, atomic writes, and errors of the disk in plain words.

A write goes to a temporary sibling, is flushed to the disk, and takes its final name in one rename;
a process killed at any moment leaves the old file, the new file, or a temporary one that nobody reads.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from topovlm import json_text
from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, read_plain
from topovlm.process import running

_CHUNK_BYTES = 1 << 20
_ABANDONED_S = 60.0
MOST_JSON_BYTES = 16 * MEBIBYTE
MOST_TOKENIZER_BYTES = 64 * MEBIBYTE  # the largest that models bring, of 260,000 words, has 35 MB
_DISK_RULES = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another place with -o"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another place with -o"),
    errno.EROFS: ("the file system is read-only", "Choose another place with -o"),
    errno.EACCES: (
        "writing there is not permitted",
        "Change its permissions or choose another -o",
    ),
    errno.EPERM: (
        "writing there is not permitted",
        "Change its permissions or choose another -o",
    ),
    errno.ENOTDIR: ("a part of this path is a file, not a directory", "Choose another place with -o"),
    errno.EEXIST: ("a file is where a directory is needed", "Choose another place with -o"),
    errno.EISDIR: ("is a directory where a file is needed", "Name a file with -o"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "Choose a shorter one with -o"),
    errno.ELOOP: ("its symbolic links lead in a circle", "Choose another place with -o"),
}


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN; the base of every content hash."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in chunks of 1 MiB."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def files_under(root: Path) -> list[Path]:
    """Every regular file of a folder (or the file itself), in a stable order. Raises FileNotFoundError."""
    if root.is_file():
        return [root]
    if not root.exists():
        raise FileNotFoundError(root)
    return sorted(path for path in root.rglob("*") if path.is_file())


def sha256_tree(root: Path) -> str:
    """One digest for a file, or for a folder's names and bytes."""
    if root.is_file():
        return sha256_file(root)
    return digest_of({path.relative_to(root).as_posix(): sha256_file(path) for path in files_under(root)})


def disk_error(error: OSError, path: Path | str) -> InputError | None:
    """The error of the disk as a sentence with a remedy; None when it is not the user's disk."""
    known = _DISK_RULES.get(error.errno or 0)
    if known is None:
        return None
    rule, remedy = known
    # A failed rename names the temporary first and what it was to become second.
    return InputError(explain("path", str(error.filename2 or error.filename or path), rule, remedy))


@contextlib.contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only path and the like into `InputError`; others pass."""
    try:
        yield
    except OSError as error:
        known = disk_error(error, path)
        if known is None:
            raise
        raise known from error


def temporary_sibling(path: Path) -> Path:
    """A name in the same folder (so a rename stays on one file system), unique to this process."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _abandoned(final: Path) -> Iterator[Path]:
    """Temporary siblings of `final` whose process is gone. One that was written to a moment ago may belong to
    a process of another machine."""
    pattern = re.compile(rf"\.{re.escape(final.name)}\.(\d{{1,10}})\.tmp")
    for path in final.parent.glob(f".{glob.escape(final.name)}.*.tmp"):
        found = pattern.fullmatch(path.name)
        if found and path.is_dir() and not path.is_symlink() and not running(int(found[1])):
            with contextlib.suppress(OSError):  # it goes while we look
                newest = max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
                if time.time() - newest > _ABANDONED_S:
                    yield path


def _sync(path: Path) -> None:
    """Flush a file or a folder entry to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing. Raises `InputError` for the disk's own refusals."""
    temporary = temporary_sibling(path)
    with plain_disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for JSON that a person may read: indented, keys in the given order."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(
    path: Path,
    *,
    field: str = "file",
    most_bytes: int = MOST_JSON_BYTES,
    remedy: str = "",
    constants: bool = False,
) -> Any:
    """Parsed JSON; raises `InputError` naming the file (and the line) when it is absent, broken or a bomb.

    Objects take some twenty times the room of their text. `constants`: as in `json_text.parse`.
    """
    data = read_plain(path, field=field, most_bytes=most_bytes, remedy=remedy)
    return parse_json(data, field=field, name=str(path), remedy=remedy, constants=constants)


def parse_json(
    text: str | bytes,
    *,
    field: str,
    name: str,
    remedy: str = "",
    unique_keys: bool = False,
    constants: bool = False,
) -> Any:
    """`json_text.parse` for people: raises `InputError` with `field` and `name`, which say what is read."""
    try:
        return json_text.parse(text, unique_keys=unique_keys, constants=constants)
    except json_text.NotJsonError as error:
        raise InputError(explain(field, name, str(error), remedy)) from None


def as_stored(value: Any) -> Any:
    """The value as it would be read back from its canonical JSON: lists for tuples, texts for keys."""
    return json_text.parse(canonical_json(value))


def inside(folder: Path, name: str, *homes: Path) -> Path | None:
    """The path of `name` in `folder`; None for a name that leads out of it, by itself or through links.

    That is: an absolute name, one with `..` or a NUL, an empty one. What is named need not exist. `homes`:
    where links may lead as well.
    """
    parts = PurePosixPath(name).parts
    if not name or "\0" in name or "\\" in name or ".." in parts or PurePosixPath(name).is_absolute():
        return None
    path = folder / name
    try:
        found, around = path.resolve(), (folder.resolve(), *homes)
    except (OSError, ValueError, RuntimeError):  # a name too long or no text, links in a circle
        return None
    return path if any(map(found.is_relative_to, around)) else None


def move_into_place(staged: Path, final: Path) -> None:
    """Give a finished file or folder its final name; what was there goes away afterwards.

    A folder cannot replace a full folder in one call, so the old one is first renamed aside: a reader
    sees the old, for an instant nothing, then the new; never a mixture.
    """
    with plain_disk_errors(final):
        for path in files_under(staged):
            _sync(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        if staged.is_file():
            os.replace(staged, final)
        else:
            aside = staged.with_name(f"{staged.name}.old")
            remove(aside)
            if os.path.lexists(final):  # a link goes aside itself, not what it leads to
                os.replace(final, aside)
            os.replace(staged, final)
            remove(aside)
        _sync(final.parent)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A second name for a file where the file system can, else a copy.

    Finished files are replaced by renames, never changed in place: a shared file is as good as a copy.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def link_or_copy_tree(source: Path, target: Path) -> None:
    """The same for a folder, too; parents of `target` are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link_or_copy)
    else:
        link_or_copy(source, target)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A temporary sibling folder that becomes `final` if the block succeeds, and vanishes if not.

    What a process that was killed left in its place goes: models are gigabytes.
    """
    temporary = temporary_sibling(final)
    with plain_disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        for left in _abandoned(final):
            remove(left)
        remove(temporary)
        temporary.mkdir()
    try:
        with plain_disk_errors(final):
            yield temporary
        move_into_place(temporary, final)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def check_output(path: Path) -> None:
    """Refuse, before any work, an output folder that is a file or that cannot be written to."""
    with _output_errors(path):
        if path.exists() and not path.is_dir():
            raise InputError(
                explain("--output", str(path), "is a file, not a directory", "Choose another -o")
            )
        _check_writable(path)


def check_output_file(path: Path) -> None:
    """Refuse, before any work, an output file that is a directory or that cannot be written."""
    with _output_errors(path):
        if path.is_dir():
            raise InputError(explain("--output", str(path), "is a directory", "Name a file with -o"))
        _check_writable(path.parent)
        # A name that the file system refuses (too long) shows only when it is asked for.
        with contextlib.suppress(FileNotFoundError):
            temporary_sibling(path).lstat()


def _check_writable(folder: Path) -> None:
    """The folder, or the nearest parent that is there, takes a new file."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(explain("--output", str(folder), f"{existing} is a file", "Choose another -o"))
    probe = existing / f".topovlm-write-test.{os.getpid()}"
    probe.touch()
    probe.unlink()


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """Whatever the system says about an output path is about the user's path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        rule, remedy = _DISK_RULES.get(error.errno or 0, (f"cannot be written to ({reason})", ""))
        raise InputError(explain("--output", str(path), rule, remedy)) from None
