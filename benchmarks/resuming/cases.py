"""The disturbances: a signal, a second run, a full disk, a changed file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.resuming import runs
from benchmarks.resuming.runs import HIDDEN, Ended, Surroundings
from topovlm.artifacts import sha256_tree

_TRIES = 100
_TERMINATED = 143


@dataclass(frozen=True)
class Base:
    """A finished deployment that nothing disturbed."""

    words: Sequence[str]
    out: Path
    content_hash: str
    stages: dict[str, float]

    def later(self, stage: str) -> list[str]:
        """The stage and all that come after it."""
        names = list(self.stages)
        return names[names.index(stage) :]


@dataclass(frozen=True)
class Result:
    """What a case did; `wrong` is empty when all is as it should be."""

    case: str
    stage: str
    moment: str
    wrong: tuple[str, ...] = field(default=())


def _resumed(base: Base, out: Path, around: Surroundings) -> list[str]:
    """Run again to the end: what differs from the undisturbed run."""
    ended = runs.run(base.words, out, around)
    if ended.code != 0:
        return [f"resume: exit code {ended.code}: {ended.last}"]
    wrong = []
    if ended.document.get("content_hash") != base.content_hash:
        wrong.append("resume: another content hash")
    return wrong + _left(out, around)


def _left(out: Path, around: Surroundings) -> list[str]:
    wrong = [f"left in the run directory: {name}" for name in runs.half_done(out)]
    wrong += [f"left among temporary files: {name}" for name in around.left()]
    return wrong + [f"still running: process {number}" for number in around.processes()]


def signalled(base: Base, number: signal.Signals, stage: str, rng: Random, room: Path) -> Result:
    """SIGKILL or SIGTERM at a random moment of a stage, in a run that gets there for the first time."""
    around, out = Surroundings(room), room / "out"
    runs.without(base.out, out, base.later(stage))
    process = runs.start(base.words, out, around)
    after_s = rng.random() * base.stages[stage]
    moment = f"{after_s:.2f} s"
    if not runs.wait_for(process, out, stage):
        return Result(number.name, stage, moment, (f"ended before the stage: {runs.end(process).last}",))
    ended = runs.interrupt(process, number, after_s)
    wrong = []
    finished = ended.code == 0  # the moment came after the end
    if number is signal.SIGTERM and not finished:
        if ended.code != _TERMINATED:
            wrong.append(f"exit code {ended.code}, not {_TERMINATED}")
        if not ended.sentence:
            wrong.append(f"no sentence: {ended.last}")
        wrong += _left(out, around)
    else:
        wrong += [f"still running: process {one}" for one in around.processes()]
    return Result(number.name, stage, moment, (*wrong, *_resumed(base, out, around)))


def second_run(base: Base, stage: str, room: Path) -> Result:
    """A second deployment into the same directory is refused; the first one does not notice."""
    around, out = Surroundings(room), room / "out"
    runs.without(base.out, out, base.later(stage))
    first = runs.start(base.words, out, around)
    if not runs.wait_for(first, out, stage):
        return Result("two runs", stage, "", (f"the first ended early: {runs.end(first).last}",))
    second = runs.run(base.words, out, around)
    wrong = []
    if second.code != 2 or not second.sentence:
        wrong.append(f"the second: exit code {second.code}: {second.last}")
    ended = runs.end(first)
    if ended.document.get("content_hash") != base.content_hash:
        wrong.append(f"the first: exit code {ended.code}, {ended.last}")
    return Result("two runs", stage, "", (*wrong, *_left(out, around)))


@contextlib.contextmanager
def _small_disk(place: Path, size_bytes: int) -> Iterator[None]:
    """A file system of its own in memory. Takes root on Linux, else `CalledProcessError`."""
    place.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)],
        check=True,
        capture_output=True,
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, stderr=subprocess.DEVNULL)


def disk_full(base: Base, stage: str, rng: Random, room: Path) -> Result:
    """The disk fills up while a stage writes: exit code 2 and a sentence, nothing half-written, resumable."""
    around, place = Surroundings(room), room / "disk"
    out = place / "out"
    written = sum(_size(base.out / name) for name in runs.outputs(base.out, stage))
    with _small_disk(place, 1 << 32):
        runs.without(base.out, out, base.later(stage))
        # A stage that writes little fails at its first page; one that writes much, anywhere on its way.
        free = int(rng.random() * written)
        moment = f"{free / (1 << 20):.2f} MiB free"
        # There is room when the run begins, or it would be refused: somebody else fills the disk meanwhile.
        process = runs.start(base.words, out, around)
        reached = runs.wait_for(process, out, stage)
        _leave(place, free)
        ended = runs.end(process)
        wrong = _said_full(ended) if reached else [f"ended before the stage: {ended.last}"]
        # Whole outputs whose record found no room are made again, as after a kill between the two.
        there = [name for name in runs.outputs(base.out, stage) if (out / name).exists()]
        torn = [name for name in there if not _whole(out / name, base.out / name)]
        if torn:
            wrong.append(f"half-written: {', '.join(torn)}")
        wrong += _left(out, around)
        _resize(place, 1 << 32)
        return Result("disk full", stage, moment, (*wrong, *_resumed(base, out, around)))


def _whole(path: Path, undisturbed: Path) -> bool:
    """What was timed anew has other numbers, and is a document to its end; all else is what it was."""
    if path.suffix == ".json":
        try:
            return bool(json.loads(path.read_text()))
        except ValueError:
            return False
    return sha256_tree(path) == sha256_tree(undisturbed)


def _said_full(ended: Ended) -> list[str]:
    if ended.code == 0:
        return []  # all of it fitted: pages are rounded, and the last ones were freed in between
    if ended.code != 2 or not ended.sentence:
        return [f"exit code {ended.code}: {ended.last}"]
    return [] if "full" in ended.last else [f"does not say that the disk is full: {ended.last}"]


def _leave(place: Path, free_bytes: int) -> None:
    """So much room is left on the disk, whatever is written to it at this moment."""
    for _ in range(_TRIES):
        try:
            return _resize(place, shutil.disk_usage(place).used + free_bytes)
        except subprocess.CalledProcessError:  # more was written than it would hold now
            time.sleep(0.01)
    raise RuntimeError(f"{place} could not be made smaller in {_TRIES} tries")


def _resize(place: Path, size_bytes: int) -> None:
    command = ["mount", "-o", f"remount,size={max(size_bytes, 1 << 16)}", str(place)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def tampered(base: Base, stage: str, output: str, rng: Random, room: Path) -> Result:
    """A byte of a stage's output changes, size and times do not: the next run notices and mends it."""
    around, out = Surroundings(room), room / "out"
    runs.without(base.out, out, [])
    files = [out / output] if (out / output).is_file() else sorted((out / output).rglob("*"))
    file = rng.choice([file for file in files if file.is_file() and file.stat().st_size])
    before = file.read_bytes()
    facts = file.stat()
    at = rng.randrange(len(before))
    with file.open("r+b") as handle:
        handle.seek(at)
        handle.write(bytes([before[at] ^ 1]))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    wrong = _resumed(base, out, around)
    if not file.is_file() or (file.read_bytes() == _flipped(before, at)):
        wrong.append("the changed file is still there")
    return Result("tampered", stage, f"{file.relative_to(out)} byte {at}", tuple(wrong))


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def tampered_digests(base: Base, rng: Random, room: Path) -> Result | None:
    """As `tampered`, with the remembered digests changed to match; None where nothing is remembered."""
    if not (base.out / HIDDEN / "digests.json").exists():
        return None
    around, out = Surroundings(room), room / "out"
    runs.without(base.out, out, [])
    digests = out / HIDDEN / "digests.json"
    raw = digests.read_bytes()
    at = rng.randrange(len(raw))
    facts = digests.stat()
    digests.write_bytes(_flipped(raw, at))
    os.utime(digests, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return Result("tampered", "digests.json", f"byte {at}", tuple(_resumed(base, out, around)))
