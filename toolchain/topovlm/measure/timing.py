"""Several engines timed on the same work, interleaved: what slows one round slows all engines in it.

In each round every engine answers the same prompt once, in an order drawn from a seeded generator. Raw
samples are kept. The run ends when every engine's median is known well enough, or at the time limit.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.machine.environment import Environment, describe_machine
from topovlm.measure.footprint import Footprint, measure_footprint
from topovlm.measure.timing_workload import TimingWorkload
from topovlm.runtime.engine import Engine, Generation
from topovlm.stats.robust import Ratio, Summary, paired_ratio, summarise
from topovlm.units import format_ms

PHASES = ("vision", "embed", "prefill", "token", "ttft", "end_to_end")
_DRIFT_LIMIT = 0.03
_CHECK_EVERY = 5  # rounds between looks at the interval


@dataclass(frozen=True)
class TimingRules:
    """How long to measure. The interval's full width is compared with `precision` x median."""

    warmup: int = 3
    min_rounds: int = 10
    max_rounds: int = 300
    time_limit_s: float = 60.0
    precision: float = 0.02
    seed: int = 0
    memory: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.min_rounds <= self.max_rounds:
            rule = f"must lie between 1 and max_rounds = {self.max_rounds}"
            raise InputError(explain("min_rounds", self.min_rounds, rule))
        if self.warmup < 0 or self.time_limit_s <= 0 or self.precision <= 0:
            raise InputError(explain("timing rules", asdict(self), "must be positive"))


@dataclass(frozen=True)
class EngineTimings:
    """Raw samples of one engine in ms, one per round and phase, in the order taken.

    `token` is the median step of a round (all steps: `token_steps`); `ttft` is vision + embed + prefill;
    `end_to_end` ends with the last of the new tokens. A phase without samples is not in `samples`.
    """

    name: str
    folder: str
    layers: int
    variant: str
    threads: int
    providers: dict[str, list[str]]
    load_ms: float
    samples: dict[str, list[float]]
    token_steps: list[list[float]]
    footprint: Footprint | None = None

    def summary(self, phase: str) -> Summary:
        return summarise(self.samples[phase])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: raw samples and their summaries."""
        return {
            **asdict(self),
            "footprint": self.footprint.to_dict() if self.footprint else None,
            "summary": {phase: self.summary(phase).to_dict() for phase in self.samples},
        }


@dataclass(frozen=True)
class Comparison:
    """All engines of one interleaved run. `order` names the engine of every timed generation."""

    engines: dict[str, EngineTimings]
    order: tuple[str, ...]
    rounds: int
    stopped: str  # `precise`, `time` or `rounds`
    rules: TimingRules
    workload: dict[str, Any]
    environment: Environment
    warnings: tuple[str, ...]

    def ratio(self, before: str, after: str, phase: str = "ttft") -> Ratio:
        """Median of `after` over `before`, paired by round."""
        return paired_ratio(self.engines[before].samples[phase], self.engines[after].samples[phase])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every time is measured and in ms."""
        return {
            "kind": "measured",
            "engines": {name: timings.to_dict() for name, timings in self.engines.items()},
            "order": list(self.order),
            "rounds": self.rounds,
            "stopped": self.stopped,
            "rules": asdict(self.rules),
            "workload": self.workload,
            "environment": self.environment.to_dict(),
            "warnings": list(self.warnings),
        }


def compare(
    engines: Mapping[str, Engine],
    workload: TimingWorkload,
    rules: TimingRules | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> Comparison:
    """Time `engines` (name -> opened engine) on `workload`; `progress` gets rounds done and seconds spent."""
    rules = rules or TimingRules()
    if not engines:
        raise InputError(explain("engines", 0, "at least one engine is needed"))
    environment = describe_machine()
    names = list(engines)
    for _ in range(rules.warmup):
        for engine in engines.values():
            _run(engine, workload, 0)
    generations, order, stopped = _rounds(engines, workload, rules, progress)
    timings = {
        name: _timings(name, engines[name], generations[name], workload, rules.memory) for name in names
    }
    warnings = environment.warnings() + _doubts(timings, rules, stopped)
    if rules.memory:
        warnings += [f"{name}: no memory figure" for name in names if timings[name].footprint is None]
    rounds = len(generations[names[0]])
    facts = workload.to_dict()
    return Comparison(timings, tuple(order), rounds, stopped, rules, facts, environment, tuple(warnings))


def _run(engine: Engine, workload: TimingWorkload, index: int) -> Generation:
    prompt = workload.prompts[index % len(workload.prompts)]
    return engine.generate_prepared(prompt, workload.new_tokens, stop_at_eos=False)


def _rounds(
    engines: Mapping[str, Engine],
    workload: TimingWorkload,
    rules: TimingRules,
    progress: Callable[[int, float], None] | None,
) -> tuple[dict[str, list[Generation]], list[str], str]:
    """Generations per engine, the order in which they ran, and why the run stopped."""
    rng = np.random.default_rng(rules.seed)
    names = list(engines)
    generations: dict[str, list[Generation]] = {name: [] for name in names}
    order: list[str] = []
    started = perf_counter()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection in the middle of a step would be timed as the model's
    try:
        for index in range(rules.max_rounds):
            for place in rng.permutation(len(names)):
                name = names[place]
                generations[name].append(_run(engines[name], workload, index))
                order.append(name)
            spent, done = perf_counter() - started, index + 1
            if progress:
                progress(done, spent)
            if done < rules.min_rounds:
                # The minimum may be cut short by four times the limit: a slow model must not hang the caller.
                if spent > 4 * rules.time_limit_s:
                    return generations, order, "time"
                continue
            if done % _CHECK_EVERY == 0 and all(_precise(g, rules.precision) for g in generations.values()):
                return generations, order, "precise"
            if spent > rules.time_limit_s:
                return generations, order, "time"
    finally:
        if collecting:
            gc.enable()
    return generations, order, "rounds"


def _precise(generations: list[Generation], precision: float) -> bool:
    return all(
        2 * summarise(samples).relative_width <= precision
        for samples in ([g.ttft_ms for g in generations], [g.total_ms for g in generations])
    )


def _timings(
    name: str, engine: Engine, generations: list[Generation], workload: TimingWorkload, memory: bool
) -> EngineTimings:
    samples = {
        "vision": [g.vision_ms for g in generations] if workload.images else [],
        "embed": [g.embed_ms for g in generations],
        "prefill": [g.prefill_ms for g in generations],
        "token": [median(g.token_ms) for g in generations if g.token_ms],
        "ttft": [g.ttft_ms for g in generations],
        "end_to_end": [g.total_ms for g in generations],
    }
    return EngineTimings(
        name=name,
        folder=str(engine.manifest.folder),
        layers=engine.manifest.layers,
        variant=engine.variant,
        threads=engine.threads,
        providers=engine.providers_used,
        load_ms=engine.load_ms,
        samples={phase: values for phase, values in samples.items() if values},
        token_steps=[g.token_ms for g in generations],
        footprint=_footprint(engine, workload) if memory else None,
    )


def _footprint(engine: Engine, workload: TimingWorkload) -> Footprint | None:
    request = {
        "folder": str(engine.manifest.folder),
        "variant": engine.variant,
        "threads": engine.threads,
        "providers": engine.providers_used["decoder"],
        "images": workload.images,
        "prompt_tokens": max(len(prompt.input_ids) for prompt in workload.prompts),
        "new_tokens": workload.new_tokens,
    }
    try:
        return measure_footprint(request)
    except RuntimeError:
        return None  # `compare` says so among its warnings; the timings stand


def _doubts(timings: Mapping[str, EngineTimings], rules: TimingRules, stopped: str) -> list[str]:
    """Warnings about drift within the run and intervals that stayed wide."""
    found = []
    for name, timing in timings.items():
        summary = timing.summary("end_to_end")
        if abs(summary.drift) > _DRIFT_LIMIT:
            found.append(
                f"{name}: the last third of the run is {100 * summary.drift:+.1f} % against the first: "
                "clocks, heat or other work changed during the run"
            )
        wide = summary.count < _CHECK_EVERY or 2 * summary.relative_width > rules.precision
        if stopped != "precise" and wide:
            found.append(
                f"{name}: {format_ms(summary.median_ms)} is known to {100 * summary.relative_width:.1f} % "
                f"only, from {summary.count} rounds; more time or a quieter machine narrows it"
            )
    return found
