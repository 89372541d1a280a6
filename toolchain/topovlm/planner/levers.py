"""What would help a plan besides removing layers: one lever each, in the order of what it costs.

A lever is added here, or by a package with an entry point of the group `topovlm.levers` that names an object
with the attributes of `Lever`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from topovlm.errors import InputError
from topovlm.families.shape import ModelShape
from topovlm.planner.solve import Plan, make_plan
from topovlm.predict.cost import published, supported_dtypes
from topovlm.predict.efficiencies import spoken_for
from topovlm.predict.levels import setting_of
from topovlm.predict.target import ResolvedTarget, list_boards, load_target
from topovlm.registry import Registry
from topovlm.workload import Workload

_MOST_BOARDS = 3


@dataclass(frozen=True)
class Advice:
    """Changes that would keep more layers, each a sentence that says how many."""

    sentences: tuple[str, ...]


class Lever(Protocol):
    """Something that can be changed about a deployment, layers aside."""

    @property
    def name(self) -> str:
        """Its name in the registry."""

    @property
    def cost(self) -> int:
        """Its place in the order of what pulling it costs; ours are 10, 20, 30, 40."""

    def consider(self, plan: Plan, shape: ModelShape) -> Advice | None:
        """What pulling it would keep of `plan`, made from a data sheet; None when it would not help."""


def layers_kept(
    plan: Plan,
    shape: ModelShape,
    *,
    target: ResolvedTarget | None = None,
    dtype: str | None = None,
    workload: Workload | None = None,
) -> int:
    """Layers that `plan` would keep after a change, 0 when still infeasible or impossible."""
    try:
        other = make_plan(
            shape,
            workload or plan.workload,
            target or plan.target,
            plan.budgets,
            dtype or plan.dtype,
            runtime=plan.runtime,
            knowledge=plan.knowledge,
            protected=range(plan.min_layers),
            confident=plan.confident,
        )
    except InputError:
        return 0
    return other.keep_layers or 0


def sentence(change: str, kept: int, total: int) -> str:
    """`weights in int8: 20 of 28 layers fit`."""
    return f"{change}: {'all' if kept == total else kept} of {total} layers fit"


@dataclass(frozen=True)
class WeightFormatLever:
    """Fewer bits per weight."""

    name: str = "weight-format"
    cost: int = 10

    def consider(self, plan: Plan, shape: ModelShape) -> Advice | None:
        tried = {
            dtype: layers_kept(plan, shape, dtype=dtype)
            for dtype in _dtypes(plan.target)
            if dtype not in (plan.dtype, "fp32")
        }
        best = max(tried, key=lambda dtype: tried[dtype], default=None)
        if best is None or tried[best] <= (plan.keep_layers or 0):
            return None
        change = f"weights in {best}"
        if not _published(plan, best):
            change += " (nothing published for it here: measure before you rely on it)"
        return Advice((sentence(change, tried[best], plan.total_layers),))


def _published(plan: Plan, dtype: str) -> bool:
    """Whether prefill rows in that format exist for the board's family, or with the runtime anywhere."""
    setting = setting_of(plan.target.board, plan.runtime, spoken_for(plan.runtime), dtype)
    known = published().known("prefill", setting)
    return not any(level.startswith(("combination=", "format=")) for level in known.unseen)


def _dtypes(target: ResolvedTarget) -> list[str]:
    """None for a machine without a data sheet."""
    return supported_dtypes(target) if target.board.gpu is not None else []


@dataclass(frozen=True)
class PowerModeLever:
    """Another power mode of the same board."""

    name: str = "power-mode"
    cost: int = 20

    def consider(self, plan: Plan, shape: ModelShape) -> Advice | None:
        tried = {
            mode.name: layers_kept(plan, shape, target=replace(plan.target, mode=mode))
            for mode in plan.target.board.modes
            if mode.gpu_mhz is not None and mode.name != plan.target.mode.name
        }
        best = max(tried, key=lambda name: tried[name], default=None)
        if best is None or tried[best] <= (plan.keep_layers or 0):
            return None
        return Advice((sentence(f"power mode {best}", tried[best], plan.total_layers),))


@dataclass(frozen=True)
class VisualTokensLever:
    """Smaller pictures, where the family's tower takes them: as many tokens as keep all layers, or any."""

    name: str = "visual-tokens"
    cost: int = 30

    def consider(self, plan: Plan, shape: ModelShape) -> Advice | None:
        if shape.vision is None or shape.fixed_tokens or plan.visual_tokens < 2:
            return None
        for wanted, text in ((plan.total_layers, "all"), (plan.min_layers, str(plan.min_layers))):
            if (plan.keep_layers or 0) >= wanted:
                break
            most = _most_tokens(plan, shape, wanted)
            if most:
                change = f"at most {most} visual tokens instead of {plan.visual_tokens}"
                return Advice((f"{change}: {text} of {plan.total_layers} layers fit",))
        return None


def _most_tokens(plan: Plan, shape: ModelShape, wanted: int) -> int:
    """Visual tokens below the plan's at which `wanted` layers fit; 0 when there are none."""
    low, high = 0, plan.visual_tokens
    while high - low > 1:
        middle = (low + high) // 2
        fewer = replace(plan.workload, visual_tokens=middle)
        low, high = (middle, high) if layers_kept(plan, shape, workload=fewer) >= wanted else (low, middle)
    return low


@dataclass(frozen=True)
class BoardLever:
    """The weakest boards of the family (then of Thor) that keep every layer in their default mode."""

    name: str = "board"
    cost: int = 40

    def consider(self, plan: Plan, shape: ModelShape) -> Advice | None:
        here = plan.target.board
        if here.gpu is None:
            return None
        families = {here.family, "jetson-thor"} if "jetson" in here.family else {here.family}
        others = [
            load_target(board.id)
            for board in list_boards()
            if board.family in families and board.id != here.id
        ]
        others.sort(key=lambda other: other.peak_flop_per_s("f16_acc16") or math.inf)
        found: list[str] = []
        for other in others:
            if layers_kept(plan, shape, target=other) == plan.total_layers:
                found.append(sentence(f"board {other.key}", plan.total_layers, plan.total_layers))
            if len(found) == _MOST_BOARDS:
                break
        return Advice(tuple(found)) if found else None


LEVERS: Registry[Lever] = Registry(
    "topovlm.levers",
    {
        "weight-format": WeightFormatLever,
        "power-mode": PowerModeLever,
        "visual-tokens": VisualTokensLever,
        "board": BoardLever,
    },
    needs=("name", "cost", "consider"),
)
