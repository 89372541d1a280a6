"""Timings and memory of the two models, with every raw sample."""

from __future__ import annotations

from typing import Annotated

import msgspec

from topovlm.records import Strict
from topovlm.report.document.figures import Count, Figure, Phase, Which, Workload

PEAK_MEMORY = "peak resident set"  # the `MemoryUse` that a memory budget bounds
# Nothing takes no time, and nobody waits eleven days.
Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class PhaseTimes(Strict, frozen=True, kw_only=True):
    """One phase: median with interval, and the raw samples in ms, in the order they were taken."""

    phase: Phase
    dense: Figure
    dense_samples_ms: Annotated[tuple[Milliseconds, ...], msgspec.Meta(min_length=1)]
    slim: Figure | None = None
    slim_samples_ms: tuple[Milliseconds, ...] = ()
    ratio: Figure | None = None  # slim / dense, median over rounds, unit "ratio"

    def __post_init__(self) -> None:
        if (self.slim is None) != (not self.slim_samples_ms):
            raise ValueError("a figure of the slim model needs its samples, and samples need a figure")


class MemoryUse(Strict, frozen=True, kw_only=True):
    """A memory figure in bytes of both models: peak resident set, weights, KV cache at the workload."""

    name: str
    dense: Figure
    slim: Figure | None = None


class Latency(Strict, frozen=True, kw_only=True):
    """Timings on the machine at hand (`where`), the two models interleaved."""

    where: str
    runtime: str  # e.g. "onnxruntime-cpu"
    variant: str  # e.g. "fused"
    threads: Count
    workload: Workload
    warmup: Count
    order: tuple[Which, ...]  # one per timed run, in the order taken
    is_target: bool  # True when the target itself was timed: the budget is judged on these figures
    phases: tuple[PhaseTimes, ...]
    memory: tuple[MemoryUse, ...] = ()
    method: str = ""
    warnings: tuple[str, ...] = ()  # what made these timings less certain: drift, other load, time limit

    def __post_init__(self) -> None:
        if len({times.phase for times in self.phases}) < len(self.phases):
            raise ValueError("a phase is there twice")
        if len({use.name for use in self.memory}) < len(self.memory):
            raise ValueError("a memory figure is there twice")
