"""Several engines timed on the same work, interleaved: what slows one round slows all engines in it.

In each round every engine answers the same prompt once, in an order drawn from a seeded generator. Raw
samples are kept. The run ends when every engine's median is known well enough, or at the time limit.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Literal, Protocol

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.machine.environment import Environment, describe_machine
from topovlm.measure.footprint import Footprint, FootprintRequest, measure_footprint
from topovlm.measure.settings import RoundProgress, TimingRules
from topovlm.measure.timing_workload import TimingWorkload
from topovlm.predict.profile import TimedWorkload
from topovlm.records import Part
from topovlm.runtime.engine import Engine, Generation
from topovlm.stats.robust import DRIFT_LIMIT, Ratio, Summary, paired_ratio, summarise
from topovlm.units import format_ms

__all__ = ["PHASES", "Comparison", "EngineTimings", "TimingRules", "compare"]

PHASES = ("vision", "embed", "prefill", "token", "ttft", "end_to_end")
CHECK_EVERY = 5  # rounds between looks at the interval


class Times(Protocol):
    """The phases of one generation in ms; `token_ms`: one entry per token after the first."""

    @property
    def vision_ms(self) -> float: ...
    @property
    def embed_ms(self) -> float: ...
    @property
    def prefill_ms(self) -> float: ...
    @property
    def token_ms(self) -> Sequence[float]: ...


class EngineTimings(Part, frozen=True, kw_only=True):
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
        """Median, interval, spread and drift of a phase."""
        return summarise(self.samples[phase])


class Comparison(Part, frozen=True, kw_only=True):
    """All engines of one interleaved run. `order` names the engine of every timed generation."""

    kind: Literal["measured"] = "measured"
    engines: dict[str, EngineTimings]
    order: tuple[str, ...]
    rounds: int
    stopped: str  # `precise`, `time` or `rounds`; `lost` where a connection was
    rules: TimingRules
    workload: TimedWorkload
    environment: Environment
    warnings: tuple[str, ...]

    def ratio(self, before: str, after: str, phase: str = "ttft") -> Ratio:
        """Median of `after` over `before`, paired by round."""
        return paired_ratio(self.engines[before].samples[phase], self.engines[after].samples[phase])


def compare(
    engines: Mapping[str, Engine],
    workload: TimingWorkload,
    rules: TimingRules | None = None,
    *,
    progress: RoundProgress | None = None,
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
    return Comparison(
        engines=timings,
        order=tuple(order),
        rounds=len(generations[names[0]]),
        stopped=stopped,
        rules=rules,
        workload=workload.facts(),
        environment=environment,
        warnings=(*environment.warnings(), *doubts(timings, rules, stopped)),
    )


def _run(engine: Engine, workload: TimingWorkload, index: int) -> Generation:
    prompt = workload.prompts[index % len(workload.prompts)]
    return engine.generate_prepared(prompt, workload.new_tokens, stop_at_eos=False)


def _rounds(
    engines: Mapping[str, Engine],
    workload: TimingWorkload,
    rules: TimingRules,
    progress: RoundProgress | None,
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
            if done % CHECK_EVERY == 0 and all(precise(g, rules.precision) for g in generations.values()):
                return generations, order, "precise"
            if spent > rules.time_limit_s:
                return generations, order, "time"
    finally:
        if collecting:
            gc.enable()
    return generations, order, "rounds"


def precise(runs: Sequence[Times], precision: float) -> bool:
    """Whether the time to the first token and to the last are known that well."""
    found = samples_of(runs)
    return all(2 * summarise(found[phase]).relative_width <= precision for phase in ("ttft", "end_to_end"))


def samples_of(runs: Sequence[Times]) -> dict[str, list[float]]:
    """Samples by phase, one per run; a phase that no run has is left out."""
    ttft = [run.vision_ms + run.embed_ms + run.prefill_ms for run in runs]
    samples = {
        "vision": [run.vision_ms for run in runs if run.vision_ms],
        "embed": [run.embed_ms for run in runs],
        "prefill": [run.prefill_ms for run in runs],
        "token": [median(run.token_ms) for run in runs if run.token_ms],
        "ttft": ttft,
        "end_to_end": [first + sum(run.token_ms) for first, run in zip(ttft, runs, strict=True)],
    }
    return {phase: values for phase, values in samples.items() if values}


def _timings(
    name: str, engine: Engine, generations: list[Generation], workload: TimingWorkload, memory: bool
) -> EngineTimings:
    return EngineTimings(
        name=name,
        folder=str(engine.manifest.folder),
        layers=engine.manifest.layers,
        variant=engine.variant,
        threads=engine.threads,
        providers=engine.providers_used,
        load_ms=engine.load_ms,
        samples=samples_of(generations),
        token_steps=[g.token_ms for g in generations],
        footprint=_footprint(engine, workload) if memory else None,
    )


def _footprint(engine: Engine, workload: TimingWorkload) -> Footprint | None:
    longest = max(len(prompt.ids) for prompt in workload.prompts)
    return footprint_of(engine, workload, longest)


def footprint_of(engine: Engine, workload: TimingWorkload, prefill_tokens: int) -> Footprint | None:
    """Memory of an engine's folder at a prompt length; None where it cannot be measured: timings stand."""
    request = FootprintRequest(
        folder=str(engine.manifest.folder),
        variant=engine.variant,
        threads=engine.threads,
        providers=tuple(engine.providers_used["decoder"]),
        images=workload.images,
        frames=workload.frames,
        image_size=workload.image_size,
        prompt_tokens=prefill_tokens,
        new_tokens=workload.new_tokens,
    )
    try:
        return measure_footprint(request)
    except RuntimeError:
        return None


def doubts(timings: Mapping[str, EngineTimings], rules: TimingRules, stopped: str) -> list[str]:
    """Warnings: drift within the run, intervals that stayed wide, memory that could not be measured."""
    found = []
    for name, timing in timings.items():
        summary = timing.summary("end_to_end")
        if abs(summary.drift) > DRIFT_LIMIT:
            found.append(
                f"{name}: the last third of the run is {100 * summary.drift:+.1f} % against the first: "
                "clocks, heat or other work changed during the run"
            )
        wide = summary.count < CHECK_EVERY or 2 * summary.relative_width > rules.precision
        if stopped != "precise" and wide:
            found.append(
                f"{name}: {format_ms(summary.median_ms)} is known to {100 * summary.relative_width:.1f} % "
                f"only, from {summary.count} rounds; more time or a quieter machine narrows it"
            )
    if rules.memory:
        found += [f"{name}: no memory figure" for name, timing in timings.items() if timing.footprint is None]
    return found
