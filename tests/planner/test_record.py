"""Plans as they are stored: read back the same, and refused when they are something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planner.test_solve import QWEN, plan_for
from tests.predict.profiles import make_profile
from tests.predict.test_measured import SHAPE
from topovlm.errors import InputError
from topovlm.planner.advice import advise
from topovlm.planner.record import SCHEMA, PlanRecord
from topovlm.planner.solve import Budgets, Plan, make_plan
from topovlm.predict.target import load_target
from topovlm.records import plain, read, write
from topovlm.units import LatencyBudget
from topovlm.workload import Workload


def measured() -> Plan:
    """From a profile: no parts of the memory are known apart where the profile has none."""
    budgets = Budgets(LatencyBudget(share_of_dense=0.6))
    workload = Workload(prompt_tokens=20)
    return make_plan(SHAPE, workload, load_target("local"), budgets, "fp32", profile=make_profile())


@pytest.mark.parametrize("budget", ["200ms", "60%", "1ms"])
def test_a_plan_is_read_back_the_same(budget: str, tmp_path: Path) -> None:
    """Feasible, relative and infeasible; budgets as values that can be asked for again, not as text."""
    plan = advise(plan_for("jetson-orin-nano@25W", budget), QWEN)
    path = tmp_path / "plan.json"
    write(path, plan.record())
    again = read(path, PlanRecord, field="plan", schema=SCHEMA)
    assert again == plan.record()
    assert again.budgets == plan.budgets
    assert again.workload.visual_tokens == 265


def test_a_measured_plan_is_read_back_the_same(tmp_path: Path) -> None:
    """Also with a target that has no data sheet."""
    write(tmp_path / "plan.json", measured().record())
    assert read(tmp_path / "plan.json", PlanRecord, field="plan", schema=SCHEMA) == measured().record()


def test_every_row_says_what_it_is_and_where_it_comes_from() -> None:
    """One row per number of layers, marked as predicted, its figures within their range."""
    plan = plan_for("jetson-orin-nano@25W")
    record = plan.record()
    assert [row.keep_layers for row in record.rows] == list(range(1, 29))
    for row in record.rows:
        assert row.kind == "predicted"
        assert "data sheet of jetson-orin-nano-8gb@25W" in row.source
        assert row.ttft_ms.low <= row.ttft_ms.value <= row.ttft_ms.high
        assert row.fits == (row.exceeds == () and row.keep_layers >= record.min_layers)


def test_a_damaged_plan_is_refused_by_file_and_field(tmp_path: Path) -> None:
    """A wrong type deep inside is named, not guessed around."""
    document = plain(plan_for("jetson-orin-nano@25W").record())
    document["rows"][3]["ttft_ms"]["value"] = "fast"
    path = tmp_path / "plan.json"
    write(path, document)
    with pytest.raises(InputError, match=r"plan.json.*Expected `float`.*\$\.rows\[3\]\.ttft_ms\.value"):
        read(path, PlanRecord, field="plan", schema=SCHEMA)
