"""Lines of the board's timer -> the same comparison as `runtime.timing.compare` gives for this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from topovlm.runtime import timing
from topovlm.runtime.engine import Generation
from topovlm.runtime.footprint import Footprint

if TYPE_CHECKING:
    from topovlm.hardware.environment import Environment
    from topovlm.hardware.remote.parcel import Parcel
    from topovlm.runtime.workload import TimingWorkload

_CHECK_EVERY = 5  # rounds between looks at the intervals


class Rounds:
    """Takes the lines as they come; decides when the medians are known well enough."""

    def __init__(self, rules: timing.TimingRules, progress: Callable[[int, float], None] | None) -> None:
        self.rules, self.progress = rules, progress
        self.loaded: dict[str, dict[str, Any]] = {}
        self.generations: dict[str, list[Generation]] = {}
        self.footprints: dict[str, Footprint] = {}
        self.order: list[str] = []
        self.stopped = "lost"
        self.failure: dict[str, Any] | None = None

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
        elif kind == "failure":
            self.failure = message
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
        if self.progress:
            self.progress(self.count, message["spent_s"])
        if self.count < self.rules.min_rounds or self.count % _CHECK_EVERY:
            return None
        precise = all(timing._precise(g, self.rules.precision) for g in self.generations.values())
        return "stop" if precise else None

    def comparison(
        self,
        folders: Mapping[str, str | Path],
        parcel: Parcel,
        workload: TimingWorkload,
        environment: Environment,
        warnings: list[str],
    ) -> timing.Comparison:
        """All that was measured, whole or not."""
        engines = {name: self._timings(name, str(folders[name]), parcel) for name in self.generations}
        found = environment.warnings() + warnings + timing._doubts(engines, self.rules, self.stopped)
        if self.rules.memory:
            found += [f"{name}: no memory figure" for name in engines if name not in self.footprints]
        return timing.Comparison(
            engines=engines,
            order=tuple(self.order),
            rounds=self.count,
            stopped=self.stopped,
            rules=self.rules,
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
