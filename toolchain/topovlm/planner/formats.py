"""The same budget in every weight format that a target has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from topovlm.families.shape import ModelShape
from topovlm.planner.limits import latency_name
from topovlm.planner.solve import Budgets, Plan, make_plan
from topovlm.predict.cost import DEFAULT_RUNTIME, supported_dtypes
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
    runtime: str = DEFAULT_RUNTIME,
    protected: Collection[int] = (),
    confident: bool = False,
) -> dict[str, Plan]:
    """One plan per format (default: all that the target has, fp32 apart), without advice.

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
            protected=protected,
            confident=confident,
            advise=False,
        )
        first = found[wanted[0]]
        if budgets.max_latency is not None and budgets.max_latency.absolute_ms is None:
            budgets = replace(budgets, max_latency=LatencyBudget(absolute_ms=first.budget_ms))
    return found


def dtype_rows(plans: dict[str, Plan]) -> list[tuple[str, ...]]:
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
        latency = shown.ttft_ms if plan.workload.new_tokens == 1 else shown.total_ms
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
