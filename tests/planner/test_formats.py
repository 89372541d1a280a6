"""One budget in every weight format of a target."""

from __future__ import annotations

import io

from rich.console import Console

from tests.planner.test_solve import PICTURE, PROTECTED, QWEN
from topovlm.planner.formats import format_plans, plan_dtypes
from topovlm.planner.solve import Budgets
from topovlm.planner.view import render_dtypes
from topovlm.predict.target import load_target
from topovlm.units import LatencyBudget


def test_formats_are_compared_under_one_budget() -> None:
    """Every format of the target; a relative budget means the first one's dense model for all."""
    target = load_target("jetson-thor")
    plans = plan_dtypes(
        QWEN, PICTURE, target, Budgets(LatencyBudget(share_of_dense=0.8)), protected=PROTECTED
    )
    assert list(plans) == ["fp16", "int8", "w4a16", "fp8", "nvfp4"]
    assert len({plan.budget_ms for plan in plans.values()}) == 1
    assert plans["fp16"].verdict == "prune"
    assert (plans["nvfp4"].keep_layers or 0) >= (plans["fp16"].keep_layers or 0)
    screen = io.StringIO()
    render_dtypes(plans, Console(file=screen, width=200))
    assert "nvfp4" in screen.getvalue()


def test_every_point_of_a_format_is_stored() -> None:
    """Depths from one to all with the figures that the budget is for; what fits is what was planned."""
    budgets = Budgets(LatencyBudget(absolute_ms=150))
    plans = plan_dtypes(QWEN, PICTURE, load_target("jetson-orin-nano@25W"), budgets, ["fp16", "w4a16"])
    stored = format_plans(plans)
    assert list(stored) == ["fp16", "w4a16"]
    for dtype, found in stored.items():
        assert [point.kept for point in found.points] == list(range(1, 29))
        assert {point.dtype for point in found.points} == {dtype}
        assert found.keep_layers == max((point.kept for point in found.points if point.fits), default=None)
        rows = plans[dtype].rows
        assert [point.latency_ms for point in found.points] == [row.prediction.ttft_ms.value for row in rows]
