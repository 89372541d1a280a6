"""Engines of several depths timed at several prompt lengths, every pair once in each round."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from topovlm.measure.settings import RoundProgress, TimingRules
from topovlm.measure.timing import CHECK_EVERY
from topovlm.measure.timing_workload import TimingWorkload
from topovlm.runtime.engine import Engine
from topovlm.stats.robust import change_by_thirds, summarise

Cell = tuple[int, int]  # (decoder layers, prompt tokens with visual ones)
PHASES = ("vision", "embed", "prefill", "token")
_DECIMALS = 5  # of a millisecond: clocks tell no more, and files stay small
_LEAST_THIRD = 3  # rounds that a look at the drift needs at either end
_GPU_WARM_UP_S = 5.0
_OVERTIME = 2.0  # how far the least number of rounds may overrun the time limit


@dataclass(frozen=True)
class Sweep:
    """Raw samples in ms, one per round; `token` is the median step of a round. `order`: cells as they ran."""

    samples: dict[Cell, dict[str, list[float]]]
    order: tuple[Cell, ...]
    rounds: int
    stopped: str  # `precise`, `time` or `rounds`
    seconds: float

    def medians(self, phase: str) -> dict[Cell, float]:
        """Median per cell, what slows a whole round divided out."""
        return paired_medians({cell: samples[phase] for cell, samples in self.samples.items()})

    @property
    def drift(self) -> float:
        """Relative change of the machine's pace from the first third of the rounds to the last.

        Zero for runs too short to tell: single rounds differ without any drift.
        """
        rows = [np.add(s["prefill"], s["token"]) for s in self.samples.values()]
        pace = round_effects(np.log(np.array(rows)))
        return float(np.expm1(change_by_thirds(pace, _LEAST_THIRD)))

    def noise(self, phase: str) -> float:
        """Half the 95 % interval of a median, relative, of the typical cell."""
        return median(summarise(samples[phase]).relative_width for samples in self.samples.values())


def round_effects(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much slower than usual each round was, in logarithms `[rounds]`; `logs` `[cells, rounds]`."""
    usual = np.median(logs, axis=1, keepdims=True)
    effects: NDArray[np.float64] = np.median(logs - usual, axis=0)
    return effects


def paired_medians(samples: Mapping[Cell, Sequence[float]]) -> dict[Cell, float]:
    """Median of each cell's samples after its rounds' common slowness is taken out."""
    logs = np.log(np.array([samples[cell] for cell in samples], float))
    values = np.exp(np.median(logs - round_effects(logs), axis=1))
    return dict(zip(samples, map(float, values), strict=True))


def warm_up(engines: Mapping[int, Engine], workloads: Mapping[int, TimingWorkload], times: int) -> float:
    """Run every cell `times` times (at least once), untimed; seconds that one round took, the fastest.

    On a GPU rounds go on for some seconds: its clocks rise from idle only under load.
    """
    on_gpu = any(engine.runs_on.on_gpu for engine in engines.values())
    fastest, done, started = float("inf"), 0, perf_counter()
    while done < max(1, times) or (on_gpu and perf_counter() - started < _GPU_WARM_UP_S):
        done += 1
        began = perf_counter()
        for engine in engines.values():
            for workload in workloads.values():
                engine.generate_prepared(workload.prompts[0], workload.new_tokens, stop_at_eos=False)
        fastest = min(fastest, perf_counter() - began)
    return fastest


def sweep(
    engines: Mapping[int, Engine],
    workloads: Mapping[int, TimingWorkload],
    rules: TimingRules,
    *,
    progress: RoundProgress | None = None,
) -> Sweep:
    """Time every depth at every length (see `Cell`) in a seeded random order, until known or out of time."""
    rng = np.random.default_rng(rules.seed)
    cells = [(layers, tokens) for layers in engines for tokens in workloads]
    samples: dict[Cell, dict[str, list[float]]] = {cell: {phase: [] for phase in PHASES} for cell in cells}
    order: list[Cell] = []
    stopped, done, began = "rounds", 0, perf_counter()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection in the middle of a step would be timed as the model's
    try:
        while done < rules.max_rounds:
            for place in rng.permutation(len(cells)):
                cell = cells[place]
                workload = workloads[cell[1]]
                found = engines[cell[0]].generate_prepared(
                    workload.prompts[0], workload.new_tokens, stop_at_eos=False
                )
                times = (found.vision_ms, found.embed_ms, found.prefill_ms, median(found.token_ms))
                for phase, value in zip(PHASES, times, strict=True):
                    samples[cell][phase].append(round(value, _DECIMALS))
                order.append(cell)
            done, spent = done + 1, perf_counter() - began
            if progress:
                progress(done, spent)
            if done < rules.min_rounds and spent < _OVERTIME * rules.time_limit_s:
                continue
            if spent > rules.time_limit_s:
                stopped = "time"
                break
            if done % CHECK_EVERY == 0 and precise(samples, rules.precision):
                stopped = "precise"
                break
    finally:
        if collecting:
            gc.enable()
    return Sweep(samples, tuple(order), done, stopped, perf_counter() - began)


def precise(samples: Mapping[Cell, Mapping[str, Sequence[float]]], precision: float) -> bool:
    """Whether prefill and the tokens of every cell are known that well."""
    return all(
        2 * summarise(cell[phase]).relative_width <= precision
        for cell in samples.values()
        for phase in ("prefill", "token")
    )
