"""The run directory: which stages are done, for which inputs, with which outputs; resume and lock.

A stage writes into a work folder. When it is done its outputs take their final names, and only then its
record is written: a run killed between the two repeats the stage. A stage is reused when its inputs hash
the same and its outputs, read whole, still have the recorded sha256. `trust` says what a record may name.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from topovlm import artifacts
from topovlm.console import Display, Progress
from topovlm.errors import InputError, VerificationError, explain
from topovlm.pipeline import lock
from topovlm.pipeline.stage import Stage
from topovlm.pipeline.trust import is_intact, is_stage_name, removable, strangers
from topovlm.records import Part, decode, encode, plain, read

HIDDEN, LOGS = ".topovlm", "logs"
RUN_FILE = "run.json"
_SCHEMA = 2
_FINAL = "report"

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # `artifacts.temporary_sibling`
_REMEDY = "Remove it, or choose another -o"

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
    """Stages of one deployment under `root`. Use inside `with run.locked():`.

    `stages`: those that may have left something here, beside the ones that it is asked for. `lenders`: other
    run directories, whose results of stages that are lent serve here, too.
    """

    def __init__(
        self,
        root: Path,
        display: Display,
        stages: Sequence[Stage[Any]] = (),
        lenders: Sequence[Path] = (),
    ) -> None:
        self.root = root
        self._lenders = tuple(lenders)
        self.display = display
        self.records: dict[str, Record[Any]] = {}
        self._declared = {stage.name: stage.outputs for stage in stages}

    def check(self) -> None:
        """Raise `InputError` when the directory is a file, foreign or unwritable; creates nothing.

        Also when what we write through in it is a link, which would lead elsewhere, or a pipe.
        """
        artifacts.check_output(self.root)
        for part in (HIDDEN, LOGS):
            other = next(strangers(self.root / part), None)
            if other is not None:
                rule = f"holds what no run writes, a link or a pipe: {other.relative_to(self.root)}"
                raise InputError(explain("--output", str(self.root), rule, _REMEDY))
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
        hidden = self.root / HIDDEN
        artifacts.remove(hidden / "work")
        for path in [*self.root.glob(".*.tmp"), *hidden.glob(".*.tmp"), *hidden.glob("*/.*.tmp")]:
            if _TEMPORARY.fullmatch(path.name):
                artifacts.remove(path)

    @property
    def shards(self) -> Path:
        """Where results of the running stage's shards are kept by content until it is done."""
        return self.root / HIDDEN / "shards"

    def forget_shards(self) -> None:
        """They have become a stage, or nobody will ask for them any more."""
        artifacts.remove(self.shards)

    def _record_path(self, name: str) -> Path:
        return self.root / HIDDEN / "stages" / f"{name}.json"

    def recorded(self, name: str) -> _Stored | None:
        """The record on disk, whatever its inputs; None when absent, unreadable or of another version.

        Also where it names another stage, or outputs that the stage does not have: no such record is ours.
        """
        path = self._record_path(name)
        if not is_stage_name(name) or not path.is_file():
            return None
        try:
            stored = read(path, _Stored, field="record")
        except InputError:
            return None
        declared = self._declared.get(name, (name,))
        ours = stored.name == name and set(stored.outputs) <= set(declared)
        return stored if ours and stored.schema == _SCHEMA else None

    def names(self) -> tuple[str, ...]:
        """Stages that left a record here, whoever made it."""
        found = (path.stem for path in self._record_path("*").parent.glob("*.json"))
        return tuple(sorted(filter(is_stage_name, found)))

    def valid(self, stage: Stage[T], inputs: Mapping[str, Any]) -> Record[T] | None:
        """The record if it was made from these inputs, its value can be read and its outputs are intact."""
        self._declared[stage.name] = stage.outputs
        stored = self.recorded(stage.name)
        if stored is None or artifacts.canonical_json(stored.inputs) != artifacts.canonical_json(inputs):
            return None
        if set(stored.outputs) != set(stage.outputs):
            return None
        if not all(is_intact(self.root, output, digest) for output, digest in stored.outputs.items()):
            return None
        try:
            value = decode(bytes(stored.value), stage.value, field="record", name=stage.name)
        except InputError:
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
            value = self._borrowed(stage, inputs, work) or make(work, progress)
            raw = msgspec.Raw(msgspec.json.encode(plain(value)))
            # As it will be read back: a fresh result and a reused one are the same to later stages.
            read = _decoded(raw, stage)
            missing = [output for output in stage.outputs if not (work / output).exists()]
            if missing:
                rule = f"has ended without writing {', '.join(missing)}"
                raise VerificationError(explain("stage", name, rule, "Nothing was kept"))
            digests = {output: artifacts.sha256_tree(work / output) for output in stage.outputs}
            self._forget_stale(stage, digests)
            self._forget_record(name)
            for output in stage.outputs:
                artifacts.move_into_place(work / output, self.root / output)
            artifacts.remove(work)
        seconds = time.perf_counter() - began
        plain_inputs = artifacts.as_stored(inputs)
        stored = _Stored(
            schema=_SCHEMA, name=name, inputs=plain_inputs, outputs=digests, value=raw, seconds=seconds
        )
        artifacts.write_bytes(self._record_path(name), encode(stored))
        self.forget_shards()
        return self._keep(Record(name, plain_inputs, digests, read, seconds))

    def _borrowed(self, stage: Stage[T], inputs: Mapping[str, Any], work: Path) -> T | None:
        """The value of a lender's stage with these inputs, its outputs in `work`; None where none has it."""
        for lender in self._lenders if stage.lent else ():
            found = RunDir(lender, self.display).valid(stage, inputs)
            if found is None:
                continue
            # Its own run may replace it meanwhile.
            with contextlib.suppress(OSError):
                for output in found.outputs:
                    artifacts.link_or_copy_tree(lender / output, work / output)
            if all(is_intact(work, output, digest) for output, digest in found.outputs.items()):
                self.display.note(f"{stage.name}: the same as in {lender}")
                return found.value
            artifacts.remove(work)
            work.mkdir()
        return None

    def _forget_stale(self, stage: Stage[Any], digests: Mapping[str, str]) -> None:
        """Other outputs than those recorded: what was made from the old ones goes before they do.

        A run that is killed or fails later then leaves less, never a mixture. What this run had before it
        first came to the stage was not made from it, and stays.
        """
        record = self.recorded(stage.name)
        before = () if stage.name in self.records else self.records
        if record is None or record.outputs != digests:
            for later in stage.feeds():
                if later not in before:
                    self.forget(later)

    def result(self, stage: Stage[T]) -> Record[T] | None:
        """What a stage gave in this run; None when it did not run."""
        return cast("Record[T] | None", self.records.get(stage.name))

    def _keep(self, record: Record[T]) -> Record[T]:
        self.records[record.name] = record
        return record

    def _forget_record(self, name: str) -> None:
        self._record_path(name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Drop a stage that no longer applies, with its outputs: only what `trust` lets go with it."""
        if not is_stage_name(name):
            return
        record, declared = self.recorded(name), self._declared.get(name)
        left = record is not None or os.path.lexists(self._record_path(name))
        self._forget_record(name)
        outputs = record.outputs if record else {}
        for path in removable(self.root, name, outputs, declared) if left else ():
            artifacts.remove(path)
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
            if before.inputs.get(key) != artifacts.as_stored(inputs.get(key))
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
