"""Energy over a stretch of work: power rails sampled beside it, or the processor's own counters."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np

from topovlm.machine.telemetry import ROOT, read_energy_counters, read_rails


@dataclass
class PowerLog:
    """Use as `with PowerLog() as log:`; then `log.energy_j` holds joules by rail or counter.

    A machine without rails and counters gives an empty result and starts no thread.
    """

    root: Path = ROOT
    interval_s: float = 0.1
    seconds: float = 0.0
    energy_j: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> PowerLog:
        self._times: list[float] = []
        self._rails: list[dict[str, float]] = []
        self._counters = read_energy_counters(self.root)
        self._began = perf_counter()
        self._stop = threading.Event()
        self._thread = None
        if self._sample():
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._sample()
        self.seconds = perf_counter() - self._began
        self.energy_j = {**self._from_counters(), **self._from_rails()}

    @property
    def mean_w(self) -> dict[str, float]:
        """Watts by rail or counter; empty where nothing was measured."""
        if self.seconds <= 0:
            return {}
        return {name: joules / self.seconds for name, joules in self.energy_j.items()}

    def _watch(self) -> None:
        while not self._stop.wait(self.interval_s):
            self._sample()

    def _sample(self) -> bool:
        rails = read_rails(self.root)
        if rails:
            self._times.append(perf_counter())
            self._rails.append(rails)
        return bool(rails)

    def _from_rails(self) -> dict[str, float]:
        """Trapezoids between samples, for rails that every sample has."""
        if len(self._rails) < 2:
            return {}
        names = set.intersection(*(set(rails) for rails in self._rails))
        steps = np.diff(self._times)
        found = {}
        for name in sorted(names):
            watts = np.array([rails[name] for rails in self._rails])
            found[name] = float((steps * (watts[1:] + watts[:-1]) / 2).sum())
        return found

    def _from_counters(self) -> dict[str, float]:
        after = read_energy_counters(self.root)
        return {
            name: (after[name][0] - used) % wrap
            for name, (used, wrap) in self._counters.items()
            if name in after
        }
