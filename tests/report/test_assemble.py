"""The parts of the report that come from plans and from the stages' records."""

from __future__ import annotations

from typing import Any

import pytest

from topovlm.families.known_models import known_model
from topovlm.pipeline import assemble
from topovlm.pipeline.rundir import Record
from topovlm.planner.solve import Budgets, make_plan
from topovlm.predict.target import load_target
from topovlm.records import plain
from topovlm.report.document import Plan
from topovlm.units import LatencyBudget
from topovlm.workload import Workload


def planned(new_tokens: int = 64) -> tuple[dict[str, Any], Plan]:
    """A share of the dense latency on a board, as the plan says it and as the report takes it."""
    workload = Workload(visual_tokens=265, prompt_tokens=27, new_tokens=new_tokens)
    budgets = Budgets(LatencyBudget.parse("70%"))
    shape, target = known_model("qwen3-vl-2b").shape(), load_target("jetson-agx-orin-64gb@MAXN")
    plan = plain(make_plan(shape, workload, target, budgets, "w4a16").record())
    return plan, assemble.plan_part(plan, measured=False)


def test_the_plans_own_verdicts_travel() -> None:
    """Exceeded and endangered limits are those of the plan, so that the report need not guess the bound."""
    plan, part = planned()
    chosen = part.rows[plan["keep_layers"] - 1]
    assert chosen.fits
    assert chosen.exceeds == ()
    assert [list(row.at_risk) for row in part.rows] == [row["at_risk"] for row in plan["rows"]]
    assert part.rows[-1].exceeds == ("latency",)
    # The range of a prediction is wider than the room under the budget, and still nothing is at risk: the
    # dense model's upper end rises as well.
    assert chosen.total.high is not None
    assert chosen.total.high > plan["budget_ms"]
    assert chosen.at_risk == ()


def test_answers_of_many_tokens_have_a_predicted_total() -> None:
    """The end-to-end prediction reaches the report, and no prediction claims a confidence."""
    plan, part = planned()
    for row, facts in zip(part.rows, plan["rows"], strict=True):
        assert row.total.value == facts["total_ms"]["value"]
        assert row.total.value == pytest.approx(row.ttft.value + 63 * row.token.value, rel=2e-3)
        assert {f.confidence for f in (row.vision, row.prefill, row.token, row.ttft, row.memory)} == {None}


def record(name: str, **value: Any) -> Record:
    """A stage's record with nothing but its value."""
    return Record(name=name, inputs={}, outputs={}, value=value, seconds=0.0, cached=False)


@pytest.mark.parametrize(("kind", "words"), [("engine", "not run"), ("bundle", "built on the board")])
def test_tensorrt_is_shown_as_far_as_it_was_checked(kind: str, words: str) -> None:
    """The fp16 graphs' parity is among the checks under a name of its own; what was not run is said."""
    result = {
        "graph": "decoder",
        "prompt": "picture",
        "tolerance": 0.02,
        "max_logit": 10.0,
        "max_logit_error": 0.1,
        "decode_steps": 4,
        "control_position_error": 3.0,
        "control_mask_error": None,
    }
    records = {"tensorrt": record("tensorrt", kind=kind, parity=[result])}
    checks = assemble.tensorrt_checks(records)
    assert [check.model for check in checks] == ["dense", "dense"]
    assert all("fp16" in check.name for check in checks)
    assert checks[0].limit == pytest.approx(0.2)
    assert words in assemble.tensorrt_limits(records)[0]
    assert assemble.tensorrt_checks({}) == assemble.tensorrt_limits({}) == []
