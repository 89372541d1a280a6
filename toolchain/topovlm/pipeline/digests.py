"""Digests of files, remembered between runs: a large model is read once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from topovlm import artifacts
from topovlm.errors import InputError

_Known = dict[str, tuple[int, int, int, str]]  # path -> size, time of change (ns), inode, sha256


class DigestCache:
    """sha256 of files, remembered by (size, time of change) so that a large model is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: _Known = {}
        self._loaded = False

    def of(self, root: Path) -> str:
        """As `artifacts.sha256_tree`, reading only files that changed since they were last read."""
        if root.is_file():
            return self._file(root)
        names = {path.relative_to(root).as_posix(): self._file(path) for path in artifacts.files_under(root)}
        return artifacts.digest_of(names)

    def _file(self, path: Path) -> str:
        if not self._loaded:
            with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._known = msgspec.json.decode(self.path.read_bytes(), type=_Known)
            self._loaded = True
        facts = path.stat()
        stamp = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        key = str(path.resolve())
        known = self._known.get(key)
        if known and known[:3] == stamp:
            return known[3]
        digest = artifacts.sha256_file(path)
        self._known[key] = (*stamp, digest)
        return digest

    def moved(self, before: Path, after: Path) -> None:
        """Digests of a file or folder that was renamed: nothing in it is read again."""
        old, new = str(before.resolve()), str(after.resolve())
        for key in [key for key in self._known if key == old or key.startswith(old + os.sep)]:
            self._known[new + key[len(old) :]] = self._known.pop(key)

    def save(self) -> None:
        with contextlib.suppress(InputError):  # only a cache: without room for it everything still works
            artifacts.write_json(self.path, self._known)
