"""Lines of the board's timer -> the same comparison or sweep as this machine's own timing gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from topovlm.measure import timing
from topovlm.measure.footprint import Footprint
from topovlm.measure.sweep import Cell, Sweep
from topovlm.runtime.engine import Generation

if TYPE_CHECKING:
    from topovlm.machine.environment import Environment
    from topovlm.measure.ssh.parcel import Parcel
    from topovlm.measure.timing_workload import TimingWorkload

_CHECK_EVERY = 5  # rounds between looks at the intervals


Generations = dict[str, list[Generation]]


class Rounds:
    """Takes the lines as they come; `precise` decides when the cases (by name) are known well enough."""

    def __init__(
        self,
        min_rounds: int,
        precise: Callable[[Generations], bool],
        progress: Callable[[int, float], None] | None,
    ) -> None:
        self.min_rounds, self.precise, self.progress = min_rounds, precise, progress
        self.loaded: dict[str, dict[str, Any]] = {}
        self.generations: Generations = {}
        self.footprints: dict[str, Footprint] = {}
        self.order: list[str] = []
        self.stopped = "lost"
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """Whole rounds so far."""
        return len(next(iter(self.generations.values()), ()))

    def line(self, text: str) -> str | None:
        """One line of the timer; returns what to tell it (`stop`), or None. Other lines are passed over."""
        try:
            message = json.loads(text)
            kind = message["kind"]
        except (ValueError, TypeError, KeyError):
            return None  # a library that prints
        if kind == "loaded":
            self.loaded[message["name"]] = message
        elif kind == "done":
            self.stopped = message["stopped"]
        elif kind == "round":
            return self._round(message)
        return None

    def footprint(self, name: str) -> Callable[[str], None]:
        """A reader of the lines of one engine's memory measurement."""

        def read(text: str) -> None:
            if text.startswith('{"kind": "footprint"'):
                facts = json.loads(text)
                del facts["kind"]
                self.footprints[name] = Footprint(**facts)

        return read

    def _round(self, message: Mapping[str, Any]) -> str | None:
        self.order += message["order"]
        for name, run in message["runs"].items():
            self.generations.setdefault(name, []).append(_generation(run))
        self.seconds = message["spent_s"]
        if self.progress:
            self.progress(self.count, self.seconds)
        if self.count < self.min_rounds or self.count % _CHECK_EVERY:
            return None
        return "stop" if self.precise(self.generations) else None

    def sweep(self, cells: Mapping[str, Cell]) -> Sweep:
        """The rounds as a sweep, from the cases' names to its cells."""
        samples = {
            cells[name]: {
                "vision": [run.vision_ms for run in runs],
                "embed": [run.embed_ms for run in runs],
                "prefill": [run.prefill_ms for run in runs],
                "token": [median(run.token_ms) for run in runs],
            }
            for name, runs in self.generations.items()
        }
        order = tuple(cells[name] for name in self.order)
        return Sweep(samples, order, self.count, self.stopped, self.seconds)

    def comparison(
        self,
        folders: Mapping[str, str | Path],
        parcel: Parcel,
        workload: TimingWorkload,
        *,
        rules: timing.TimingRules,
        environment: Environment,
        warnings: list[str],
    ) -> timing.Comparison:
        """All that was measured, whole or not."""
        engines = {name: self._timings(name, str(folders[name]), parcel) for name in self.generations}
        found = environment.warnings() + warnings + timing._doubts(engines, rules, self.stopped)
        if rules.memory:
            found += [f"{name}: no memory figure" for name in engines if name not in self.footprints]
        return timing.Comparison(
            engines=engines,
            order=tuple(self.order),
            rounds=self.count,
            stopped=self.stopped,
            rules=rules,
            workload=workload.to_dict(),
            environment=environment,
            warnings=tuple(found),
        )

    def _timings(self, name: str, folder: str, parcel: Parcel) -> timing.EngineTimings:
        loaded, runs = self.loaded[name], self.generations[name]
        samples = {
            "vision": [run.vision_ms for run in runs if run.vision_ms],
            "embed": [run.embed_ms for run in runs],
            "prefill": [run.prefill_ms for run in runs],
            "token": [median(run.token_ms) for run in runs if run.token_ms],
            "ttft": [run.ttft_ms for run in runs],
            "end_to_end": [run.total_ms for run in runs],
        }
        return timing.EngineTimings(
            name=name,
            folder=folder,
            layers=parcel.layers[name],
            variant=parcel.variants[name],
            threads=loaded["threads"],
            providers=loaded["providers"],
            load_ms=loaded["load_ms"],
            samples={phase: values for phase, values in samples.items() if values},
            token_steps=[run.token_ms for run in runs],
            footprint=self.footprints.get(name),
        )


def _generation(run: Mapping[str, Any]) -> Generation:
    return Generation(
        token_ids=[],
        text="",
        stopped="length",
        preprocess_ms=0.0,
        vision_ms=run["vision"],
        embed_ms=run["embed"],
        prefill_ms=run["prefill"],
        token_ms=run["token"],
        prompt_tokens=0,
    )
