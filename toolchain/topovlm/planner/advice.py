"""What would help a plan that cannot keep every layer: other format, mode, board, or fewer visual tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from topovlm.errors import InputError
from topovlm.families.shape import ModelShape
from topovlm.planner.solve import Plan, make_plan
from topovlm.predict.cost import supported_dtypes
from topovlm.predict.efficiencies import efficiency
from topovlm.predict.target import ResolvedTarget, list_targets, load_target

_MOST_BOARDS = 3


def advice(plan: Plan, shape: ModelShape, profile: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Sentences, most useful first; each says how many layers the change would keep."""
    if plan.budgets.max_latency and plan.budgets.max_latency.share_of_dense is not None:
        return ()  # relative to the dense model of the same target: nothing elsewhere compares
    if plan.floor.name == "sparsity":
        return ()
    found = []
    if profile is None and plan.target.board.gpu is not None:
        found += _other_formats(plan, shape) + _other_modes(plan, shape) + _other_boards(plan, shape)
    if profile is None:
        found += _fewer_tokens(plan, shape)
    return tuple(found)


def _kept(
    plan: Plan, shape: ModelShape, target: ResolvedTarget, dtype: str, visual_tokens: int | None = None
) -> int:
    """Layers kept after a change, 0 when still infeasible or impossible."""
    workload = plan.workload if visual_tokens is None else replace(plan.workload, visual_tokens=visual_tokens)
    try:
        other = make_plan(
            shape,
            workload,
            target,
            plan.budgets,
            dtype,
            runtime=plan.runtime,
            protected=range(plan.min_layers),
            confident=plan.confident,
            advise=False,
        )
    except InputError:
        return 0
    return other.keep_layers or 0


def _sentence(change: str, kept: int, total: int) -> str:
    return f"{change}: {'all' if kept == total else kept} of {total} layers fit"


def _other_formats(plan: Plan, shape: ModelShape) -> list[str]:
    now = plan.keep_layers or 0
    tried = {
        dtype: _kept(plan, shape, plan.target, dtype)
        for dtype in supported_dtypes(plan.target)
        if dtype not in (plan.dtype, "fp32")
    }
    best = max(tried, key=lambda dtype: tried[dtype], default=None)
    if best is None or tried[best] <= now:
        return []
    change = f"weights in {best}"
    if efficiency(plan.target.board.family, plan.runtime, best, "prefill").borrowed:
        change += " (nothing published for it here: measure before you rely on it)"
    return [_sentence(change, tried[best], plan.total_layers)]


def _other_modes(plan: Plan, shape: ModelShape) -> list[str]:
    now, board = plan.keep_layers or 0, plan.target.board
    tried = {
        mode.name: _kept(plan, shape, replace(plan.target, mode=mode), plan.dtype)
        for mode in board.modes
        if mode.gpu_mhz is not None and mode.name != plan.target.mode.name
    }
    best = max(tried, key=lambda name: tried[name], default=None)
    if best is None or tried[best] <= now:
        return []
    return [_sentence(f"power mode {best}", tried[best], plan.total_layers)]


def _other_boards(plan: Plan, shape: ModelShape) -> list[str]:
    """The weakest boards of the family (then of Thor) that keep every layer in their default mode."""
    families = (
        {plan.target.board.family, "jetson-thor"}
        if "jetson" in plan.target.board.family
        else {plan.target.board.family}
    )
    others = [
        load_target(board.id)
        for board in list_targets()
        if board.family in families and board.id != plan.target.board.id
    ]
    others.sort(key=lambda other: other.peak_flop_per_s("f16_acc16") or math.inf)
    found = []
    for other in others:
        if _kept(plan, shape, other, plan.dtype) == plan.total_layers:
            found.append(_sentence(f"board {other.key}", plan.total_layers, plan.total_layers))
        if len(found) == _MOST_BOARDS:
            break
    return found


def _fewer_tokens(plan: Plan, shape: ModelShape) -> list[str]:
    """How many visual tokens would keep every layer, or, failing that, any."""
    if shape.vision is None or shape.fixed_tokens or plan.visual_tokens < 2:
        return []
    for wanted, text in ((plan.total_layers, "all"), (plan.min_layers, str(plan.min_layers))):
        if (plan.keep_layers or 0) >= wanted:
            break
        low, high = 0, plan.visual_tokens
        while high - low > 1:
            middle = (low + high) // 2
            fits = _kept(plan, shape, plan.target, plan.dtype, middle) >= wanted
            low, high = (middle, high) if fits else (low, middle)
        if low:
            return [
                f"at most {low} visual tokens instead of {plan.visual_tokens}: "
                f"{text} of {plan.total_layers} layers fit"
            ]
    return []
