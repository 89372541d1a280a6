"""The gate fails closed: a part that is missing never passes, an impossible sample is bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.reports import Change, checked

Report = dict[str, Any]


def nothing(report: Report) -> None:
    """As it is."""


def slower(report: Report) -> None:
    for phase in report["latency"]["phases"]:
        phase["slim_samples_ms"] = [1.5 * sample for sample in phase["slim_samples_ms"]]


def no_phase(report: Report) -> None:
    slower(report)
    report["latency"]["phases"] = []


def only_vision(report: Report) -> None:
    slower(report)
    report["latency"]["phases"] = report["latency"]["phases"][:1]


def no_slim_answers(report: Report) -> None:
    for question in report["accuracy"]["questions"]:
        question["slim"] = None


def no_questions(report: Report) -> None:
    report["accuracy"]["questions"] = []


def no_samples(report: Report) -> None:
    report["latency"]["phases"][0].update(slim_samples_ms=[], dense_samples_ms=[])


def negative(report: Report) -> None:
    report["latency"]["phases"][0]["slim_samples_ms"][0] = -1.0


def dense_zero(report: Report) -> None:
    report["latency"]["phases"][0]["dense_samples_ms"] = [0.0] * 20


@pytest.mark.parametrize(
    ("candidate", "baseline", "code"),
    [
        (nothing, nothing, 0),
        (slower, nothing, 4),
        (no_phase, nothing, 4),
        (only_vision, nothing, 4),
        (no_slim_answers, nothing, 4),
        (no_samples, nothing, 2),
        (negative, nothing, 2),
        (dense_zero, nothing, 2),
        (nothing, dense_zero, 2),
        (nothing, no_slim_answers, 2),
        (no_questions, no_questions, 2),
    ],
)
def test_verdicts(candidate: Change, baseline: Change, code: int, tmp_path: Path) -> None:
    """Equal runs pass, a slow-down fails, and so does every way to hide it."""
    done = checked(tmp_path, candidate, baseline)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert code != 2 or (".json" in done.last and "internal error" not in done.err)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """One failed line per part, on the screen, in the document and in the annotations."""
    done = checked(tmp_path, no_phase, nothing, "--json", env={"GITHUB_ACTIONS": "true"})
    assert done.code == 4
    document = json.loads(done.out)  # one document, whatever CI prints beside it
    failed = {row["name"] for row in document["checks"] if row["verdict"] == "regressed"}
    assert failed == {f"latency.{name}" for name in ("vision", "prefill", "token", "ttft", "end_to_end")}
    annotations = [line for line in done.err.splitlines() if line.startswith("::error")]
    assert len(annotations) == len(failed)
    assert "FAIL latency.ttft: timed in the baseline" in done.err
