"""Lines of the board's timer -> the same comparison or sweep as this machine's own timing gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from topovlm.machine.environment import Environment
from topovlm.measure import timing
from topovlm.measure.footprint import Footprint
from topovlm.measure.settings import RoundProgress, TimingRules
from topovlm.measure.ssh.messages import (
    EngineMemory,
    Failed,
    GenerationTimes,
    Loaded,
    Malformed,
    Round,
    Stopped,
    TimerLine,
    read_line,
)
from topovlm.measure.sweep import Cell, Sweep
from topovlm.measure.timing import CHECK_EVERY, Comparison, EngineTimings
from topovlm.records import Part

if TYPE_CHECKING:
    from topovlm.measure.ssh.parcel import Parcel
    from topovlm.measure.timing_workload import TimingWorkload

Runs = dict[str, list[GenerationTimes]]  # by case


class PartialSweep(Part, frozen=True, kw_only=True):
    """What a profile had timed when its run broke off: times by case, `<layers>@<prefill tokens>`."""

    kind: Literal["measured"] = "measured"
    rounds: int
    samples: Runs
    environment: Environment
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What the lines must be about: cases by name and the engine of each, new tokens."""

    engines: Mapping[str, str]
    new_tokens: int


class Rounds:
    """Takes the lines as they come; `precise` decides when the cases (by name) are known well enough.

    More rounds than `most` were not asked for.
    """

    def __init__(
        self,
        asked: Asked,
        min_rounds: int,
        precise: Callable[[Runs], bool],
        progress: RoundProgress | None,
        most: int | None = None,
    ) -> None:
        self.most = most
        self.asked, self.min_rounds, self.precise, self.progress = asked, min_rounds, precise, progress
        self.loaded: dict[str, Loaded] = {}
        self.runs: Runs = {}
        self.footprints: dict[str, Footprint] = {}
        self.order: list[str] = []
        self.stopped = "lost"
        self.failed: Failed | None = None
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """Whole rounds so far."""
        return len(next(iter(self.runs.values()), ()))

    def line(self, text: str) -> str | None:
        """One line of the timer; returns what to tell it (`stop`), or None. Other lines are passed over.

        Raises `Malformed` for a line that cannot be what was asked for.
        """
        message = read_line(text)
        return None if message is None else self.take(message)

    def take(self, message: TimerLine) -> str | None:
        """As `line`, from the message itself."""
        if isinstance(message, Round):
            return self._round(message)
        if isinstance(message, Loaded):
            if not message.providers.get("decoder"):
                raise Malformed(f"{message.name} does not say what runs its decoder")
            self.loaded[self._engine(message.name)] = message
        elif isinstance(message, EngineMemory):
            self.footprints[self._engine(message.name)] = Footprint(
                libraries_bytes=message.libraries_bytes,
                peak_bytes=message.peak_bytes,
                load_ms=message.load_ms,
            )
        elif isinstance(message, Stopped):
            self.stopped = message.stopped
        return None

    def _engine(self, name: str) -> str:
        if name not in self.asked.engines.values():
            raise Malformed(f"no engine {name!r} was asked for")
        return name

    def _round(self, message: Round) -> str | None:
        cases, steps = sorted(self.asked.engines), self.asked.new_tokens - 1
        if sorted(message.order) != cases or sorted(message.runs) != cases:
            raise Malformed(f"a round of other cases than were asked for: {sorted(message.runs)}")
        if not self.loaded.keys() >= set(self.asked.engines.values()):
            raise Malformed("a round before its engines were open")
        if self.most is not None and self.count >= self.most:
            raise Malformed(f"more than the {self.most} rounds that were asked for")
        for name, times in message.runs.items():
            if len(times.token_ms) != steps:
                raise Malformed(f"{name}: times of {len(times.token_ms)} tokens, not of {steps}")
        self.order += message.order
        for name, times in message.runs.items():
            self.runs.setdefault(name, []).append(times)
        self.seconds = message.spent_s
        if self.progress:
            self.progress(self.count, self.seconds)
        if self.count < self.min_rounds or self.count % CHECK_EVERY:
            return None
        return "stop" if self.precise(self.runs) else None

    def sweep(self, cells: Mapping[str, Cell]) -> Sweep:
        """The rounds as a sweep, from the cases' names to its cells."""
        order = tuple(cells[name] for name in self.order)
        return Sweep(sweep_samples(self.runs, cells), order, self.count, self.stopped, self.seconds)

    def comparison(
        self,
        folders: Mapping[str, str | Path],
        parcel: Parcel,
        workload: TimingWorkload,
        *,
        rules: TimingRules,
        environment: Environment,
        warnings: list[str],
    ) -> Comparison:
        """All that was measured, whole or not."""
        engines = {name: self._timings(name, str(folders[name]), parcel) for name in self.runs}
        found = environment.warnings() + warnings + timing.doubts(engines, rules, self.stopped)
        return Comparison(
            engines=engines,
            order=tuple(self.order),
            rounds=self.count,
            stopped=self.stopped,
            rules=rules,
            workload=workload.facts(),
            environment=environment,
            warnings=tuple(found),
        )

    def _timings(self, name: str, folder: str, parcel: Parcel) -> EngineTimings:
        loaded, runs = self.loaded[name], self.runs[name]
        return EngineTimings(
            name=name,
            folder=folder,
            layers=parcel.layers[name],
            variant=parcel.variants[name],
            threads=loaded.threads,
            providers=loaded.providers,
            load_ms=loaded.load_ms,
            samples=timing.samples_of(runs),
            token_steps=[list(run.token_ms) for run in runs],
            footprint=self.footprints.get(name),
        )


def sweep_samples(runs: Runs, cells: Mapping[str, Cell]) -> dict[Cell, dict[str, list[float]]]:
    """Samples by cell and phase, as `measure.sweep` takes them."""
    return {
        cells[name]: {
            "vision": [run.vision_ms for run in found],
            "embed": [run.embed_ms for run in found],
            "prefill": [run.prefill_ms for run in found],
            "token": [median(run.token_ms) for run in found],
        }
        for name, found in runs.items()
    }
