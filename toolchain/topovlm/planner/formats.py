"""The same budget in every weight format that a target has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from topovlm.families.shape import ModelShape
from topovlm.planner.limits import latency_name, latency_of
from topovlm.planner.record import FormatPlan, FormatPoint
from topovlm.planner.solve import Budgets, Plan, Row, make_plan
from topovlm.predict.cost import supported_dtypes
from topovlm.predict.knowledge import Knowledge
from topovlm.predict.target import ResolvedTarget
from topovlm.units import LatencyBudget, format_bytes, format_ms
from topovlm.workload import Workload


def plan_dtypes(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    budgets: Budgets,
    dtypes: Sequence[str] | None = None,
    *,
    runtime: str | None = None,
    knowledge: Knowledge | None = None,
    protected: Collection[int] = (),
    confident: bool = False,
) -> dict[str, Plan]:
    """One plan per format (default: all that the target has, fp32 apart).

    A latency budget relative to the dense model means the dense model in the first format listed, so that
    the plans can be compared. Raises `InputError` as `make_plan` does.
    """
    wanted = list(dtypes) if dtypes else [name for name in supported_dtypes(target) if name != "fp32"]
    found: dict[str, Plan] = {}
    for dtype in wanted:
        found[dtype] = make_plan(
            shape,
            workload,
            target,
            budgets,
            dtype,
            runtime=runtime,
            knowledge=knowledge,
            protected=protected,
            confident=confident,
        )
        first = found[wanted[0]]
        if budgets.max_latency is not None and budgets.max_latency.absolute_ms is None:
            budgets = replace(budgets, max_latency=LatencyBudget(absolute_ms=first.budget_ms))
    return found


def format_plans(plans: Mapping[str, Plan]) -> dict[str, FormatPlan]:
    """The plans by weight format as they are stored beside a plan (`PlanRecord.formats`)."""
    return {
        dtype: FormatPlan(
            verdict=plan.verdict,
            keep_layers=plan.keep_layers,
            source=plan.source,
            points=tuple(_point(dtype, plan, row) for row in plan.rows),
        )
        for dtype, plan in plans.items()
    }


def _point(dtype: str, plan: Plan, row: Row) -> FormatPoint:
    found = row.prediction
    return FormatPoint(
        dtype=dtype,
        kept=found.keep_layers,
        latency_ms=latency_of(found, plan.workload).value,
        memory_bytes=found.memory_bytes.value,
        fits=row.fits(False),
    )


def dtype_rows(plans: Mapping[str, Plan]) -> list[tuple[str, ...]]:
    """Header and one line of text per format: verdict, layers, latency, per token, memory, floor."""
    any_plan = next(iter(plans.values()))
    rows: list[tuple[str, ...]] = [
        (
            "dtype",
            "verdict",
            "layers",
            latency_name(any_plan.workload),
            "per token",
            "memory",
            "floor",
            "source",
        )
    ]
    for dtype, plan in plans.items():
        shown = (plan.chosen or plan.rows[plan.min_layers - 1]).prediction
        latency = latency_of(shown, plan.workload)
        rows.append(
            (
                dtype,
                plan.verdict,
                f"{shown.keep_layers}/{plan.total_layers}",
                f"{format_ms(latency.value)} ({latency.low:.3g}-{latency.high:.3g})",
                format_ms(shown.token_ms.value),
                format_bytes(shown.memory_bytes.value),
                plan.floor.text,
                plan.source.partition("; ")[2],
            )
        )
    return rows
