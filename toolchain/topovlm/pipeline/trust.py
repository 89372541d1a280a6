"""What a run directory may make us do: it may come from elsewhere, a CI artefact or a colleague's archive.

Its records only ever name what a stage of ours writes, or the folder that an exporter left under its own
name; nothing in it that we write through or read as ours is a link. All is checked when it is read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from topovlm import artifacts

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_stage_name(name: str) -> bool:
    """Whether a record of that name may be ours: it becomes a file's name and, for exporters, a folder's."""
    return _NAME.fullmatch(name) is not None


def strangers(folder: Path) -> Iterator[Path]:
    """What is neither folder nor file (links, pipes, ...): the path itself or any below. None is followed."""
    if os.path.lexists(folder) and not _is_plain(folder):
        yield folder
        return
    for parent, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if not _is_plain(path := Path(parent, name)))


def _is_plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_intact(root: Path, output: str, digest: str) -> bool:
    """Whether `root`/`output` is there, holds no link or pipe and has that sha256. All its bytes are read.

    Size and time of change say nothing: a copy keeps them, and so does who changes bytes on purpose.
    """
    path = root / output
    if artifacts.inside(root, output) is None or next(strangers(path), None) is not None:
        return False
    try:
        return path.exists() and artifacts.sha256_tree(path) == digest
    except OSError:
        return False


def removable(
    root: Path, name: str, recorded: Mapping[str, str], declared: tuple[str, ...] | None
) -> list[Path]:
    """What goes with the stage `name`: what it declares; of a stage that nobody knows, its own folder.

    That is what an exporter whose plug-in is gone has left, and only while it is what was recorded.
    """
    if declared is not None:
        return [root / output for output in declared if _parent_is_inside(root, output)]
    left = {output: digest for output, digest in recorded.items() if output == name}
    return [root / output for output, digest in left.items() if is_intact(root, output, digest)]


def _parent_is_inside(root: Path, output: str) -> bool:
    """A link in the place of the output itself is removed, never what it leads to."""
    parent = Path(output).parent.as_posix()
    return parent == "." or artifacts.inside(root, parent) is not None
