"""What is planned, exported, timed, answered with and reported is one precision, or the report says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.pipeline import deploying
from topovlm.config import resolve
from topovlm.pipeline.precision import precision
from topovlm.predict.target import load_target
from topovlm.report.store import read_report


def test_half_precision_goes_all_the_way(model: Path, tmp_path: Path) -> None:
    """--dtype fp16: plan, both exported folders, timings, answers and report say and are fp16."""
    out = tmp_path / "out"
    code, _ = deploying.deploy(model, out, "--dtype", "fp16")
    assert code == 0
    report = read_report(out)
    assert report.workload.dtype == "fp16"
    assert report.latency is not None
    assert report.latency.workload.dtype == "fp16"
    assert report.accuracy is not None
    assert "fp16 plain graphs" in report.accuracy.source
    for folder in ("baseline", "onnx"):
        names = {path.name for path in (out / folder / "onnx").glob("*.onnx")}
        assert names
        assert all(name.endswith("_fp16.onnx") for name in names)
        stages = json.loads((out / ".topovlm" / "stages" / "export.json").read_text())
        assert stages["value"]["dtype"] == "fp16"
    assert not [limit for limit in report.provenance.limits if "the graphs are" in limit]


def test_where_the_plan_is_for_another_precision_the_report_says_so(finished: tuple[Path, Any]) -> None:
    """A board runs fp16 best, graphs are fp32 unless asked: plan and figures name their own, and why."""
    report = read_report(finished[0])
    assert report.latency is not None
    assert (report.workload.dtype, report.latency.workload.dtype) == ("fp16", "fp32")
    (why,) = [limit for limit in report.provenance.limits if "the graphs are fp32" in limit]
    assert "the plan is for fp16 weights on Jetson Orin Nano 8GB" in why
    assert "--dtype fp16" in why


def test_a_measured_target_has_one_precision() -> None:
    """Nothing to explain where the very graphs are timed that are deployed."""
    for asked in ("auto", "fp16"):
        found = precision(resolve({"dtype": asked}), load_target("local"))
        assert found.planned == found.exported == ("fp32" if asked == "auto" else "fp16")
        assert found.why == ""
