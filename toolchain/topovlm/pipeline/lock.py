"""One run at a time in a directory: a lock that dies with its process, on any file system.

The kernel's lock is taken where the file system has one. Where it has none (some network and user-space file
systems), a file that says who holds it stands in: machine, boot and process. A holder that is gone, by this
machine's own knowledge, holds nothing; of another machine's nobody here can tell.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import msgspec

from topovlm.artifacts import plain_disk_errors
from topovlm.errors import InputError, explain
from topovlm.process import running
from topovlm.records import Part

NAME, HELD = "lock", "lock.held"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_LARGEST_BYTES = 1 << 12
_WAIT = "Wait for it, or choose another -o"


class Holder(Part, frozen=True, kw_only=True):
    """Who holds a directory; `boot` and `began` (clock ticks) tell it from a later process of its number."""

    machine: str
    boot: str
    process: int
    began: str


@contextlib.contextmanager
def held(folder: Path, shown: Path) -> Iterator[None]:
    """Hold `folder`, which is there. Raises `InputError` about `shown` when another run holds it."""
    with plain_disk_errors(folder):
        # Not through a link: the directory may come from elsewhere.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(folder / NAME, flags, 0o644)
    try:
        taken = _lock(handle)
        if taken is False:
            raise InputError(explain("--output", str(shown), "is in use by another run", _WAIT))
        if taken:
            yield
            return
        with _standing_in(folder / HELD, shown):
            yield
    finally:
        os.close(handle)  # gives the lock back, as does the death of the process


def _lock(handle: int) -> bool | None:
    """Take the kernel's lock; False when another process has it, None where the file system has none."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    for lock in (fcntl.flock, fcntl.lockf):  # some network file systems have the second kind alone
        try:
            lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                continue
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True
    return None


@contextlib.contextmanager
def _standing_in(file: Path, shown: Path) -> Iterator[None]:
    with plain_disk_errors(file):
        for _ in range(3):
            try:
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                break
            except FileExistsError:
                _clear_stale(file, shown)
        else:
            raise InputError(explain("--output", str(shown), "is in use by another run", _WAIT))
        with os.fdopen(handle, "wb") as written:
            written.write(msgspec.json.encode(_myself()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _clear_stale(file: Path, shown: Path) -> None:
    """Remove what a process that is gone left. Raises `InputError` when its holder lives, or may."""
    try:
        with file.open("rb") as stream:
            holder = msgspec.json.decode(stream.read(_LARGEST_BYTES), type=Holder)
    except FileNotFoundError:
        return
    except (msgspec.DecodeError, UnicodeDecodeError, OSError):
        rule = f"may be in use by another run: {file} does not tell who holds it"
        raise InputError(explain("--output", str(shown), rule, f"If none is, remove {file}")) from None
    if holder.machine != platform.node():
        rule = f"is in use by process {holder.process} on {holder.machine}"
        remedy = f"{_WAIT}; if that run is gone, remove {file}"
        raise InputError(explain("--output", str(shown), rule, remedy))
    if holder.boot == _boot() and _began(holder.process) == holder.began:
        raise InputError(explain("--output", str(shown), f"is in use by process {holder.process}", _WAIT))
    file.unlink(missing_ok=True)


def _myself() -> Holder:
    own = os.getpid()
    return Holder(machine=platform.node(), boot=_boot(), process=own, began=_began(own) or "")


def _boot() -> str:
    """This start of the machine; empty where the system does not name it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _began(process: int) -> str | None:
    """When a process began, None for one that is gone; empty where the system only tells that it lives."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self").exists():
        return None
    return "" if running(process) else None
