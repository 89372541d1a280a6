"""One run at a time, also where the file system has no locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.pipeline import lock


@pytest.fixture(params=["ENOLCK", "EOPNOTSUPP", "EINVAL", "ENOSYS"])
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has locks of neither kind."""
    code = getattr(errno, request.param)

    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)


def refused(folder: Path, words: str) -> str:
    """The sentence with which a second run is turned away."""
    with pytest.raises(InputError, match=words) as raised, lock.held(folder, folder):
        pass
    return str(raised.value)


def test_two_at_once(tmp_path: Path) -> None:
    """The second is refused, and may come when the first is gone."""
    with (
        lock.held(tmp_path, tmp_path),
        pytest.raises(InputError, match="in use by another run"),
        lock.held(tmp_path, tmp_path),
    ):
        pass
    with lock.held(tmp_path, tmp_path):
        pass


@pytest.mark.usefixtures("lockless")
def test_two_at_once_without_locks(tmp_path: Path) -> None:
    """A file stands in for the lock, names its holder, and goes away with it."""
    with lock.held(tmp_path, tmp_path):
        assert json.loads((tmp_path / lock.HELD).read_text())["process"] == os.getpid()
        with (
            pytest.raises(InputError, match=f"is in use by process {os.getpid()}"),
            lock.held(tmp_path, tmp_path),
        ):
            pass
        assert (tmp_path / lock.HELD).is_file()
    assert not (tmp_path / lock.HELD).exists()


def gone() -> int:
    """The number of a process that is no more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def holder(**other: Any) -> str:
    own = json.loads(lock.msgspec.json.encode(lock._myself()))
    return json.dumps({**own, **other})


@pytest.mark.usefixtures("lockless")
def test_what_a_dead_run_left_holds_nothing(tmp_path: Path) -> None:
    """A process that is gone, one of an earlier start of the machine, a later one of the same number."""
    for other in ({"process": gone()}, {"boot": "an earlier one"}, {"began": "1"}):
        (tmp_path / lock.HELD).write_text(holder(**other))
        with lock.held(tmp_path, tmp_path):
            assert json.loads((tmp_path / lock.HELD).read_text())["process"] == os.getpid()


@pytest.mark.usefixtures("lockless")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (holder(machine="elsewhere"), "on elsewhere"),
        ("", "does not tell who holds it"),
        ("[" * 5000, "does not tell who holds it"),
        ("\udcff", "does not tell who holds it"),
    ],
)
def test_who_may_live_is_not_pushed_aside(text: str, words: str, tmp_path: Path) -> None:
    """Another machine's process, and a file that says nothing: the user is told which file to remove."""
    (tmp_path / lock.HELD).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert str(tmp_path / lock.HELD) in refused(tmp_path, words)


@pytest.mark.parametrize("how", ["a folder", "a link"])
def test_a_lock_that_is_no_file(how: str, tmp_path: Path) -> None:
    """Refused in one sentence; what a link leads to is not touched."""
    if how == "a folder":
        (tmp_path / lock.NAME).mkdir()
    else:
        (tmp_path / lock.NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError), lock.held(tmp_path, tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
