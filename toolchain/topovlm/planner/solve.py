"""Budgets -> how many decoder layers may stay, the verdict, and what binds. No weights are read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.families.vision import visual_tokens
from topovlm.planner.floor import Floor, find_floor
from topovlm.planner.limits import Budgets, Limit, latency_name, latency_of, most_layers, resolve_limits
from topovlm.planner.record import PlanRecord, PlanRow, Verdict
from topovlm.predict.cost import Prediction, predict, predict_measured
from topovlm.predict.knowledge import Knowledge
from topovlm.predict.profile import Profile
from topovlm.predict.target import ResolvedTarget
from topovlm.units import format_bytes, format_ms
from topovlm.workload import Workload

__all__ = ["Budgets", "Floor", "Plan", "Row", "make_plan"]

_SINGLE_ALLOCATION_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Row:
    """One depth. `exceeds`: limits that the central value breaks; `at_risk`: only the upper end does."""

    prediction: Prediction
    exceeds: tuple[str, ...]
    at_risk: tuple[str, ...]
    allowed: bool

    def fits(self, confident: bool) -> bool:
        """Whether this depth may be chosen."""
        return self.allowed and not self.exceeds and not (confident and self.at_risk)

    def record(self) -> PlanRow:
        """As it is stored."""
        found = self.prediction
        return PlanRow(
            keep_layers=found.keep_layers,
            dtype=found.dtype,
            runtime=found.runtime,
            vision_ms=found.vision_ms.rounded(),
            prefill_ms=found.prefill_ms.rounded(),
            token_ms=found.token_ms.rounded(),
            ttft_ms=found.ttft_ms.rounded(),
            total_ms=found.total_ms.rounded(),
            memory_bytes=found.memory_bytes.rounded(),
            memory_parts=None if found.memory is None else found.memory.rounded(),
            kind=found.kind,
            source=found.source,
            fits=self.fits(False),
            fits_confidently=self.fits(True),
            exceeds=self.exceeds,
            at_risk=self.at_risk,
        )


@dataclass(frozen=True)
class Plan:
    """The answer. `keep_layers` is None when infeasible; `budget_ms` is the resolved latency budget.

    `advice` is what would help, where someone asked (`planner.advice.advise`).
    """

    total_layers: int
    min_layers: int
    keep_layers: int | None
    verdict: Verdict
    floor: Floor
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    budgets: Budgets
    limits: tuple[Limit, ...]
    budget_ms: float | None
    latency_name: str
    target: ResolvedTarget
    workload: Workload
    visual_tokens: int
    dtype: str
    runtime: str
    runtime_version: str
    confident: bool
    source: str
    knowledge: Knowledge | None = None
    advice: tuple[str, ...] = ()
    kind: Literal["predicted"] = "predicted"

    @property
    def dense(self) -> Row:
        return self.rows[-1]

    @property
    def chosen(self) -> Row | None:
        return None if self.keep_layers is None else self.rows[self.keep_layers - 1]

    @property
    def drop_count(self) -> int | None:
        """Layers to drop, None when infeasible."""
        return None if self.keep_layers is None else self.total_layers - self.keep_layers

    def summary(self) -> str:
        """One sentence: verdict, figures, floor."""
        where = f"{self.target.board.name}, mode {self.target.mode.name}"
        if self.chosen is None:
            return f"Infeasible on {where}: {self.floor.text}"
        latency = latency_of(self.chosen.prediction, self.workload)
        figures = (
            f"{self.latency_name} {format_ms(latency.value)} (up to {format_ms(latency.high)}), {self.kind}"
        )
        if self.verdict == "dense":
            return f"All {self.total_layers} layers fit on {where}: {figures}"
        return (
            f"Keep {self.keep_layers} of {self.total_layers} layers on {where}: {figures}. {self.floor.text}"
        )

    def record(self) -> PlanRecord:
        """As it is stored and printed; one entry per number of layers in `rows`."""
        return PlanRecord(
            verdict=self.verdict,
            total_layers=self.total_layers,
            min_layers=self.min_layers,
            keep_layers=self.keep_layers,
            drop_count=self.drop_count,
            floor=self.floor,
            advice=self.advice,
            notes=self.notes,
            summary=self.summary(),
            budgets=self.budgets,
            budget_ms=self.budget_ms,
            latency_name=self.latency_name,
            confident=self.confident,
            dtype=self.dtype,
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            kind=self.kind,
            source=self.source,
            target=self.target.facts(),
            workload=replace(self.workload, visual_tokens=self.visual_tokens),
            rows=tuple(row.record() for row in self.rows),
        )


def make_plan(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    budgets: Budgets,
    dtype: str = "fp16",
    *,
    runtime: str | None = None,
    knowledge: Knowledge | None = None,
    profile: Profile | None = None,
    protected: Collection[int] = (),
    confident: bool = False,
) -> Plan:
    """The largest number of layers that meets every budget, and the board's memory.

    `protected`: decoder layers that must stay, so their count is the least that can be kept.
    `confident`: the upper end of every interval must fit, not only the central value.
    `knowledge`: what a user's measurements made of the published rows (`predict.observed`).
    `profile`: a measured profile that replaces the data sheet. Raises `InputError` for bad input;
    a budget that cannot be met is a plan with verdict "infeasible", not an error.
    """
    total = shape.total_layers
    if any(not 0 <= layer < total for layer in protected):
        raise InputError(explain("protected", sorted(protected), f"must be layers of 0..{total - 1}"))
    predictions = [
        predict(shape, workload, target, keep, dtype, runtime=runtime, knowledge=knowledge)
        if profile is None
        else predict_measured(shape, workload, profile, keep, dtype, target=target)
        for keep in range(1, total + 1)
    ]
    limits = resolve_limits(budgets, predictions[-1], workload, target)
    min_layers = max(1, len(set(protected)))
    max_layers = most_layers(total, budgets.sparsity)
    rows = tuple(_row(prediction, limits, min_layers, max_layers) for prediction in predictions)
    keep = next((row.prediction.keep_layers for row in reversed(rows) if row.fits(confident)), None)
    verdict: Verdict = "infeasible" if keep is None else "dense" if keep == total else "prune"
    latency_limit = next((limit for limit in limits if limit.name == "latency"), None)
    return Plan(
        total_layers=total,
        min_layers=min_layers,
        keep_layers=keep,
        verdict=verdict,
        floor=find_floor(
            [row.prediction for row in rows], limits, keep, (min_layers, max_layers), confident=confident
        ),
        notes=(*_counted_tokens(shape, workload), *_notes(rows[(keep or total) - 1].prediction, target)),
        rows=rows,
        budgets=budgets,
        limits=limits,
        budget_ms=latency_limit.bound if latency_limit else None,
        latency_name=latency_name(workload),
        target=target,
        workload=workload,
        visual_tokens=visual_tokens(shape, workload),
        dtype=dtype,
        runtime=predictions[-1].runtime,
        runtime_version=predictions[-1].runtime_version,
        knowledge=knowledge,
        confident=confident,
        source=predictions[-1].source,
    )


def _row(prediction: Prediction, limits: tuple[Limit, ...], min_layers: int, max_layers: int) -> Row:
    exceeds = tuple(limit.name for limit in limits if limit.measure(prediction).value > limit.bound)
    at_risk = tuple(
        limit.name
        for limit in limits
        if limit.name not in exceeds and limit.measure(prediction).high > limit.upper_bound
    )
    return Row(prediction, exceeds, at_risk, min_layers <= prediction.keep_layers <= max_layers)


def _counted_tokens(shape: ModelShape, workload: Workload) -> tuple[str, ...]:
    """What is to be said of the number of visual tokens."""
    if not (workload.video_frames and workload.visual_tokens is None and shape.films and shape.films.sifts):
        return ()
    return (
        "the visual tokens are an upper bound, and times and memory are for that many: this model leaves out "
        "what stays the same from one frame to the next, so a clip that hardly moves takes fewer",
    )


def _notes(prediction: Prediction, target: ResolvedTarget) -> tuple[str, ...]:
    """Preflight of the engine build, and what the board's software is known to refuse."""
    notes = []
    memory, usable = prediction.memory, target.usable_memory_bytes()
    if memory is None or target.board.gpu is None:
        return ()
    if memory.engine_build_bytes > usable:
        notes.append(
            f"building the engine may take about {format_bytes(memory.engine_build_bytes)} of memory, "
            f"more than the {format_bytes(usable)} of {target.board.id}: add swap for the build"
        )
    if memory.largest_allocation_bytes >= _SINGLE_ALLOCATION_BYTES:
        size = format_bytes(memory.largest_allocation_bytes)
        for software in target.board.software:
            for note in software.notes:
                if "allocation" in note:
                    notes.append(f"the largest single allocation is about {size}; {note}")
    return tuple(notes)
