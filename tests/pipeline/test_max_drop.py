"""The accuracy that a deployment must keep: refused where nothing measures it, held against the figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pipeline import deploying
from topovlm import cli
from topovlm.config import resolve
from topovlm.errors import BudgetError, InputError
from topovlm.pipeline.max_drop import refuse_drop
from topovlm.report.store import read_report


@pytest.mark.parametrize(
    ("lost", "allowed", "met"), [(0.03, 0.02, False), (0.02, 0.02, True), (-0.1, 0.02, True)]
)
def test_the_measured_drop_decides(
    lost: float, allowed: float, met: bool, finished: tuple[Path, dict[str, Any]]
) -> None:
    """In points of accuracy; a gain is no drop. The message has the figure and the remedy."""
    report = read_report(finished[0])
    assert report.accuracy is not None
    figure = report.accuracy.overall.difference
    assert figure is not None
    figure = msgspec.structs.replace(figure, value=-lost, low=-lost - 0.01, high=-lost + 0.01)
    overall = msgspec.structs.replace(report.accuracy.overall, difference=figure)
    report = msgspec.structs.replace(
        report, accuracy=msgspec.structs.replace(report.accuracy, overall=overall)
    )
    config = replace(resolve({"output": str(finished[0])}), max_drop=allowed)
    if met:
        refuse_drop(config, report)
        return
    with pytest.raises(
        BudgetError, match=r"--max-drop = '2%'.*3\.0 points.*2\.0 points may go.*larger budget"
    ):
        refuse_drop(config, report)


def test_a_finished_run_is_held_against_another_limit(
    finished: tuple[Path, dict[str, Any]], model: Path
) -> None:
    """Nothing runs again for it: the option changes no result."""
    code, _ = deploying.deploy(model, finished[0], "--max-drop", "99%")
    assert code == 0
    assert deploying.stages_run(finished[0]) == []


def test_accuracy_that_nothing_measures_is_refused(tmp_path: Path, model: Path) -> None:
    """Data without answers, and a run that stops before it asks; nothing is written."""
    data = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{number}", "prompt": f"Is it {number}?"} for number in range(40)]
    data.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    assert cli.main(deploying.arguments(model, out, "--max-drop", "2%", "--data", str(data))) == 2
    assert not out.exists()
    with pytest.raises(InputError, match="no accuracy is measured with --until prune"):
        resolve({"max_drop": "2%", "until": "prune"})
