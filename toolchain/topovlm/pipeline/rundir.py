"""The run directory: which stages are done, for which inputs, with which outputs; resume and lock.

A stage writes into a work folder. When it is done its outputs take their final names, and only then its
record is written: a run killed between the two repeats the stage. A stage is reused when its inputs hash
the same and its outputs still have the recorded sha256.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from topovlm import artifacts
from topovlm.console import Display, Progress
from topovlm.errors import InputError, VerificationError, explain
from topovlm.pipeline import lock
from topovlm.pipeline.digests import DigestCache
from topovlm.pipeline.stage import Stage
from topovlm.records import Part, encode, plain

HIDDEN = ".topovlm"
RUN_FILE = "run.json"
_SCHEMA = 2
_FINAL = "report"

T = TypeVar("T")
# Writes into the folder given and returns the record that later stages read.
Make = Callable[[Path, Progress], T]


@dataclass(frozen=True)
class Record(Generic[T]):
    """A finished stage: its inputs, the digest of each output (by top-level name), its value and its time."""

    name: str
    inputs: dict[str, Any]
    outputs: dict[str, str]
    value: T
    seconds: float
    cached: bool = field(default=False, compare=False)

    @property
    def digest(self) -> str:
        """What a later stage depends on. Timings of the stage itself are no part of it."""
        return artifacts.digest_of(
            {"inputs": self.inputs, "outputs": self.outputs, "value": plain(self.value)}
        )


class _Stored(Part, frozen=True, kw_only=True):
    """A record as it lies on the disk. The value is decoded by those who know its type."""

    schema: int
    name: str
    inputs: dict[str, Any]
    outputs: dict[str, str]
    value: msgspec.Raw
    seconds: float


class RunDir:
    """Stages of one deployment under `root`. Use inside `with run.locked():`."""

    def __init__(self, root: Path, display: Display) -> None:
        self.root = root
        self.display = display
        self.records: dict[str, Record[Any]] = {}
        self._digests = DigestCache(root / HIDDEN / "digests.json")

    def check(self) -> None:
        """Raise `InputError` when the directory is a file, foreign or unwritable; creates nothing."""
        artifacts.check_output(self.root)
        if self.root.is_dir() and not (self.root / HIDDEN).is_dir() and any(self.root.iterdir()):
            rule = "is not empty and is no run directory"
            raise InputError(explain("--output", str(self.root), rule, "Choose a new or empty one with -o"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunDir]:
        """Hold the directory alone, made if need be. Raises `InputError` as `check`, and when in use."""
        self.check()
        hidden = self.root / HIDDEN
        with artifacts.plain_disk_errors(self.root):
            hidden.mkdir(parents=True, exist_ok=True)
        with lock.held(hidden, self.root):
            self._sweep()
            try:
                yield self
            finally:
                with contextlib.suppress(OSError):  # the run's own outcome says more
                    self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed run left half-done: nothing there was ever a result."""
        artifacts.remove(self.root / HIDDEN / "work")
        for path in [*self.root.glob(".*.tmp"), *(self.root / HIDDEN).rglob(".*.tmp")]:
            artifacts.remove(path)

    def _record_path(self, name: str) -> Path:
        return self.root / HIDDEN / "stages" / f"{name}.json"

    def recorded(self, name: str) -> _Stored | None:
        """The record on disk, whatever its inputs; None when absent, unreadable or of another version."""
        try:
            stored = msgspec.json.decode(self._record_path(name).read_bytes(), type=_Stored)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return stored if stored.schema == _SCHEMA else None

    def names(self) -> tuple[str, ...]:
        """Stages that left a record here, whoever made it."""
        return tuple(sorted(path.stem for path in self._record_path("*").parent.glob("*.json")))

    def valid(self, stage: Stage[T], inputs: Mapping[str, Any]) -> Record[T] | None:
        """The record if it was made from these inputs, its value can be read and its outputs are intact."""
        stored = self.recorded(stage.name)
        if stored is None or artifacts.canonical_json(stored.inputs) != artifacts.canonical_json(inputs):
            return None
        for output, digest in stored.outputs.items():
            path = self.root / output
            if not path.exists() or self._digests.of(path) != digest:
                return None
        try:
            value = msgspec.json.decode(stored.value, type=stage.value)
        except msgspec.DecodeError:
            return None  # written by another version: made again rather than misread
        return Record(stored.name, stored.inputs, stored.outputs, value, stored.seconds, cached=True)

    def stage(self, stage: Stage[T], inputs: Mapping[str, Any], make: Make[T]) -> Record[T]:
        """Reuse the stage, or run `make` and put its outputs in place."""
        name = stage.name
        valid = self.valid(stage, inputs)
        if valid is not None:
            self.display.reused(name)
            return self._keep(valid)
        self._explain_rerun(name, inputs)
        if name != _FINAL:
            self.forget(_FINAL)  # a report beside results that it does not describe would mislead
        work = self.root / HIDDEN / "work" / name
        began = time.perf_counter()
        with self.display.stage(name) as progress, artifacts.plain_disk_errors(self.root):
            artifacts.remove(work)
            work.mkdir(parents=True)
            value = make(work, progress)
            raw = msgspec.Raw(msgspec.json.encode(plain(value)))
            # As it will be read back: a fresh result and a reused one are the same to later stages.
            read = _decoded(raw, stage)
            missing = [output for output in stage.outputs if not (work / output).exists()]
            if missing:
                rule = f"has ended without writing {', '.join(missing)}"
                raise VerificationError(explain("stage", name, rule, "Nothing was kept"))
            digests = {output: self._digests.of(work / output) for output in stage.outputs}
            self._forget_stale(stage, digests)
            self._forget_record(name)
            for output in stage.outputs:
                artifacts.move_into_place(work / output, self.root / output)
                self._digests.moved(work / output, self.root / output)
            artifacts.remove(work)
        seconds = time.perf_counter() - began
        plain_inputs = json.loads(artifacts.canonical_json(inputs))
        stored = _Stored(
            schema=_SCHEMA, name=name, inputs=plain_inputs, outputs=digests, value=raw, seconds=seconds
        )
        artifacts.write_bytes(self._record_path(name), encode(stored))
        self._digests.save()
        return self._keep(Record(name, plain_inputs, digests, read, seconds))

    def _forget_stale(self, stage: Stage[Any], digests: Mapping[str, str]) -> None:
        """Other outputs than those recorded: what was made from the old ones goes before they do.

        A run that is killed or fails later then leaves less, never a mixture.
        """
        record = self.recorded(stage.name)
        if record is None or record.outputs != digests:
            for later in stage.feeds():
                self.forget(later)

    def result(self, stage: Stage[T]) -> Record[T] | None:
        """What a stage gave in this run; None when it did not run."""
        return cast("Record[T] | None", self.records.get(stage.name))

    def _keep(self, record: Record[T]) -> Record[T]:
        self.records[record.name] = record
        return record

    def _forget_record(self, name: str) -> None:
        self._record_path(name).unlink(missing_ok=True)

    def digest(self, path: Path) -> str:
        """Digest of an input file or folder, through this directory's cache."""
        return self._digests.of(path)

    def forget(self, name: str) -> None:
        """Drop a stage that no longer applies, with its outputs."""
        record = self.recorded(name)
        self._forget_record(name)
        for output in record.outputs if record else ():
            artifacts.remove(self.root / output)
        if name == _FINAL:
            artifacts.remove(self.root / RUN_FILE)

    def _explain_rerun(self, name: str, inputs: Mapping[str, Any]) -> None:
        """Say what changed since the last run of this stage, or that its outputs were touched."""
        before = self.recorded(name)
        if before is None:
            return
        changed = [
            f"{key}: {_short(before.inputs.get(key))} -> {_short(inputs.get(key))}"
            for key in sorted({*before.inputs, *inputs})
            if before.inputs.get(key) != json.loads(artifacts.canonical_json(inputs.get(key)))
        ]
        what = ", ".join(changed) if changed else "its files were changed or removed"
        self.display.note(f"{name} runs again ({what})")


def _decoded(raw: msgspec.Raw, stage: Stage[T]) -> T:
    """Raises `VerificationError` for a record that is not what the stage promises: a plug-in's, say."""
    try:
        return msgspec.json.decode(raw, type=stage.value)
    except msgspec.ValidationError as error:
        rule = f"has given a record that is no {stage.value.__name__} ({error})"
        raise VerificationError(explain("stage", stage.name, rule, "Nothing was kept")) from error


def _short(value: Any) -> str:
    text = artifacts.canonical_json(value)
    if isinstance(value, str) and len(value) == 64:  # a digest
        return value[:8]
    return text if len(text) <= 40 else f"{text[:37]}..."
