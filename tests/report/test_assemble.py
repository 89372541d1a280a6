"""The parts of the report that come from plans and from the stages' records."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.report import factory
from topovlm.config import resolve
from topovlm.exporters.protocol import Artifact, Check, ExportRecord
from topovlm.families.known_models import known_model
from topovlm.pipeline import assemble
from topovlm.pipeline.rundir import Record
from topovlm.planner.record import PlanRecord
from topovlm.planner.solve import Budgets, make_plan
from topovlm.predict.target import load_target
from topovlm.report.budgets import asked_latency
from topovlm.report.document import Plan
from topovlm.units import LatencyBudget
from topovlm.workload import Workload


def planned(new_tokens: int = 64) -> tuple[PlanRecord, Plan]:
    """A share of the dense latency on a board, as the plan says it and as the report takes it."""
    workload = Workload(visual_tokens=265, prompt_tokens=27, new_tokens=new_tokens)
    budgets = Budgets(LatencyBudget.parse("70%"))
    shape, target = known_model("qwen3-vl-2b").facts.shape, load_target("jetson-agx-orin-64gb@MAXN")
    plan = make_plan(shape, workload, target, budgets, "w4a16").record()
    return plan, assemble.plan_part(plan, measured=False)


def test_the_plans_own_verdicts_travel() -> None:
    """Exceeded and endangered limits are those of the plan, so that the report need not guess the bound."""
    plan, part = planned()
    chosen = part.rows[(plan.keep_layers or 0) - 1]
    assert chosen.fits
    assert chosen.exceeds == ()
    assert [row.at_risk for row in part.rows] == [row.at_risk for row in plan.rows]
    assert part.rows[-1].exceeds == ("latency",)
    # The range of a prediction is wider than the room under the budget, and still nothing is at risk: the
    # dense model's upper end rises as well.
    assert chosen.total.high is not None
    assert plan.budget_ms is not None
    assert chosen.total.high > plan.budget_ms
    assert chosen.at_risk == ()


def test_answers_of_many_tokens_have_a_predicted_total() -> None:
    """The end-to-end prediction reaches the report, and no prediction claims a confidence."""
    plan, part = planned()
    for row, facts in zip(part.rows, plan.rows, strict=True):
        assert row.total.value == facts.total_ms.value
        assert row.total.value == pytest.approx(row.ttft.value + 63 * row.token.value, rel=2e-3)
        assert {f.confidence for f in (row.vision, row.prefill, row.token, row.ttft, row.memory)} == {None}


def export(**changed: Any) -> ExportRecord:
    """What an exporter recorded, with one good check and one control that does not break its limit."""
    facts = {"exporter": "other", "model": "slim", "dtype": "fp16", **changed}
    checks = (
        Check(name="error", value=0.1, limit=0.2),
        Check(name="control", value=0.2, limit=0.2, rule="more than"),
    )
    return ExportRecord(checks=checks, limits=("nothing was run",), **facts)


@pytest.mark.parametrize(
    ("typed", "milliseconds", "share", "words"),
    [
        ("200ms", 200.0, None, "200 ms"),
        ("200.4ms", 200.4, None, "200.4 ms"),
        ("60%", None, 0.6, "60% of dense"),
    ],
)
def test_a_latency_budget_travels_as_a_number(
    typed: str, milliseconds: float | None, share: float | None, words: str
) -> None:
    """What was typed is a value in the document, words only on the screen: 200 and 200.4 ms differ."""
    config = resolve({"target": "local", "max_latency": typed})
    budget = assemble.budget_part(config, planned()[0])
    assert (budget.max_latency_ms, budget.max_latency_share) == (milliseconds, share)
    assert asked_latency(msgspec.structs.replace(factory.standard(), budget=budget)) == words


def test_without_a_latency_budget_nothing_is_asked() -> None:
    """Neither a value nor words."""
    budget = assemble.budget_part(resolve({"target": "local"}), planned()[0])
    assert not budget.bounds_latency
    assert asked_latency(msgspec.structs.replace(factory.standard(), budget=budget)) == ""


def test_checks_of_exports_pass_by_their_own_figures() -> None:
    """A control that does not break the limit fails; graphs deployed as they are count once."""
    checks = assemble.export_checks({"export-dense": export(model="dense"), "export": export(model="dense")})
    assert [(check.name, check.model, check.passed) for check in checks] == [
        ("error", "dense", True),
        ("control", "dense", False),
    ]
    assert assemble.export_limits({"a": export(), "b": export()}) == ["nothing was run"]


def test_every_artefact_of_an_exporter_is_listed(tmp_path: Path) -> None:
    """Its folder with the stage's digest, or single files of it with their own; others are left out."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.bin").write_bytes(b"abc")
    (tmp_path / "other" / "log.txt").write_bytes(b"abcd")
    rows = (
        Artifact(path=".", format="folder", title="a folder", loads_in=("x",), checked=False),
        Artifact(path="a.bin", format="bin", reproducible=True),
    )
    stages = {
        "other": Record("other", {}, {"other": "d" * 64}, {}, 0.0),
        "scores": Record("scores", {}, {"scores.json": "e" * 64}, {}, 0.0),
    }
    whole, single = assemble.artifacts_part(tmp_path, stages, {"other": export(artifacts=rows)})
    assert (whole.path, whole.bytes, whole.sha256, whole.model) == ("other", 7, "d" * 64, "slim")
    assert (whole.title, whole.loads_in, whole.checked) == ("a folder", ("x",), False)
    assert (single.path, single.bytes, single.format, single.checked) == ("other/a.bin", 3, "bin", True)
    assert single.sha256 == hashlib.sha256(b"abc").hexdigest()
