"""Atomic files: whole or absent, whatever happens in between."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from topovlm import artifacts
from topovlm.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_replaces_whole(tmp_path: Path) -> None:
    """The new content takes the name; no temporary stays."""
    path = tmp_path / "deep" / "file.json"
    artifacts.write_json(path, {"a": 1})
    artifacts.write_json(path, {"a": 2})
    assert artifacts.read_json(path) == {"a": 2}
    assert names(path.parent) == ["file.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up during the write: old content stays, no temporary, a clear sentence."""
    path = tmp_path / "file.txt"
    artifacts.write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="disk is full"):
        artifacts.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """Not what one that runs is writing, nor what was written a moment ago, nor what only looks like it."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    final, old = tmp_path / "out", time.time() - 3600
    left = tmp_path / f".out.{gone.pid}.tmp"
    others = [
        tmp_path / f".out.{os.getppid()}.tmp",
        tmp_path / f".other.{gone.pid}.tmp",
        tmp_path / ".out.note.tmp",
    ]
    for path in (left, *others):
        path.mkdir()
        (path / "weights").write_bytes(b"x")
    with artifacts.staged_folder(final):
        assert left.is_dir()
    for path in (left, *others):
        os.utime(path / "weights", (old, old))
        os.utime(path, (old, old))
    with artifacts.staged_folder(final):
        assert not left.exists()
    assert all(path.is_dir() for path in others)


def test_staged_folder_appears_only_on_success(tmp_path: Path) -> None:
    """An error inside the block leaves what was there; success replaces it whole."""
    final = tmp_path / "out"

    def write(text: str, *, fail: bool) -> None:
        with artifacts.staged_folder(final) as work:
            (work / "a").write_text(text)
            if fail:
                raise ValueError("stop")

    write("one", fail=False)
    with pytest.raises(ValueError, match="stop"):
        write("two", fail=True)
    assert (final / "a").read_text() == "one"
    write("three", fail=False)
    assert (final / "a").read_text() == "three"
    assert names(tmp_path) == ["out"]


def test_a_link_where_links_are_possible_else_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replacing one name leaves the other's content alone, either way."""
    (tmp_path / "a").write_text("x")
    artifacts.link_or_copy(tmp_path / "a", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "a")

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    artifacts.link_or_copy(tmp_path / "a", tmp_path / "copied")
    artifacts.write_text(tmp_path / "a", "y")
    assert [(tmp_path / name).read_text() for name in ("linked", "copied")] == ["x", "x"]


def test_digest_depends_on_names_and_bytes(tmp_path: Path) -> None:
    """A renamed or changed file changes the digest of its folder."""
    (tmp_path / "a").write_text("x")
    first = artifacts.sha256_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = artifacts.sha256_tree(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, renamed, artifacts.sha256_tree(tmp_path)}) == 3


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Both the path itself and a parent of it."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is a file"):
            artifacts.check_output(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "is a directory"),
        ("file/below", "is a file"),
        ("file/below/deeper", "is a file"),
        ("folder/" + "n" * 250, "name is too long"),
        ("loop/below", "circle|is a file|cannot be written"),
    ],
)
def test_an_output_file_that_cannot_be_is_bad_input(tmp_path: Path, name: str, words: str) -> None:
    """Refused before the work, and by the write itself when nobody asked before; nothing is left behind."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match=words):
        artifacts.check_output_file(tmp_path / name)
    with pytest.raises(InputError, match="path = "):
        artifacts.write_text(tmp_path / name, "text")
    assert names(tmp_path) == ["file", "folder", "loop"]
    assert names(tmp_path / "folder") == []


def test_an_output_file_may_be_new_or_old(tmp_path: Path) -> None:
    """A file that is there is replaced later, a folder that is not there is made later."""
    (tmp_path / "file").write_text("old")
    artifacts.check_output_file(tmp_path / "file")
    artifacts.check_output_file(tmp_path / "new" / "deep" / "file")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_broken_json_names_the_file(tmp_path: Path, text: str) -> None:
    """A half-written JSON file is bad input."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        artifacts.read_json(path)
