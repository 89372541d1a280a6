"""The regression gate: known regressions are found, equal runs and noise pass, unlike runs are refused."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.report import factory
from topovlm.errors import InputError
from topovlm.records import plain
from topovlm.report.checks import CheckResult
from topovlm.report.document import Report, check
from topovlm.report.gate import compare, github_annotations, run_check, summary_lines
from topovlm.report.store import write_report

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def baseline() -> Report:
    """The run to compare with."""
    return factory.standard()


def with_answers(report: Report, slim: dict[str, np.ndarray]) -> Report:
    return replace(report, accuracy=factory.report(slim=slim).accuracy)


def regressed(result: CheckResult) -> set[str]:
    return {row.name for row in result.checks if row.verdict == "regressed"}


def test_a_run_does_not_regress_against_itself(baseline: Report) -> None:
    """Equal reports: every check passes."""
    result = compare(baseline, baseline)
    assert {row.verdict for row in result.checks} == {"pass"}
    assert not result.regressed


@pytest.mark.parametrize("slow_down", [1.08, 1.2, 2.0])
def test_a_slower_model_is_found(baseline: Report, slow_down: float) -> None:
    """A slim model slowed down beyond the tolerance fails on time to first token."""
    slow = replace(baseline, latency=factory.latency(scale=slow_down, seed=11))
    assert "latency.ttft" in regressed(compare(slow, baseline))


def test_faster_never_fails(baseline: Report) -> None:
    """Half the time, more right answers: no check minds."""
    fast = replace(baseline, latency=factory.latency(scale=0.5, seed=4))
    better = with_answers(fast, factory.dense_answers())
    result = compare(better, baseline)
    assert {row.verdict for row in result.checks} == {"pass"}


def test_noise_alone_does_not_fail(baseline: Report) -> None:
    """Twelve re-timings of the same model: no regression among sixty checks."""
    base = replace(baseline, accuracy=None)
    again = [replace(base, latency=factory.latency(seed=seed)) for seed in range(20, 32)]
    assert not any(compare(run, base).regressed for run in again)


def test_random_flips_alone_do_not_fail(baseline: Report) -> None:
    """Answers that flip both ways at the same rate are noise, not a loss."""
    rng = np.random.default_rng(0)
    before = factory.slim_answers(factory.dense_answers())
    failures = 0
    for _ in range(8):
        after = {family: right.copy() for family, right in before.items()}
        for right in after.values():
            for value in (True, False):  # as many right answers are lost as wrong ones are mended
                places = np.flatnonzero(right == value)
                right[rng.choice(places, min(2, len(places)), replace=False)] ^= True
        failures += compare(with_answers(baseline, after), baseline).regressed
    assert failures <= 1


def test_lost_answers_are_found(baseline: Report) -> None:
    """Four in a hundred right answers lost everywhere: overall accuracy regresses."""
    worse = factory.slim_answers(factory.dense_answers(), extra_loss=0.04)
    assert "accuracy.overall" in regressed(compare(with_answers(baseline, worse), baseline))


def test_a_single_broken_family_is_found(baseline: Report) -> None:
    """One family losing a fifth is named, even where the others hide it in the mean."""
    answers = factory.slim_answers(factory.dense_answers())
    right = np.flatnonzero(answers["motion"])
    answers["motion"][right[: len(right) // 5]] = False
    found = regressed(compare(with_answers(baseline, answers), baseline))
    assert "accuracy.motion" in found
    assert not found & {f"accuracy.{family}" for family in factory.CATEGORIES if family != "motion"}


def test_too_few_questions_are_inconclusive(baseline: Report) -> None:
    """Where a loss can be neither shown nor excluded, the gate says so and does not fail."""
    assert baseline.accuracy is not None
    few = tuple(baseline.accuracy.questions[::40])
    slim = few[0].slim
    assert slim is not None
    flipped = (replace(few[0], slim=replace(slim, score=1 - slim.score)), *few[1:])
    small = replace(baseline, accuracy=replace(baseline.accuracy, questions=few))
    result = compare(replace(small, accuracy=replace(baseline.accuracy, questions=flipped)), small)
    verdicts = {row.name: row.verdict for row in result.checks}
    assert verdicts["accuracy.overall"] == "inconclusive"
    assert not result.regressed


def test_a_slow_day_of_the_machine_is_not_the_models_fault(baseline: Report) -> None:
    """Dense and slim slowed down alike with the same software: no regression, and both changes are shown."""
    slow = replace(baseline, latency=factory.latency(scale=1.3, dense_scale=1.3, seed=6))
    result = compare(slow, baseline)
    ttft = next(row for row in result.checks if row.name == "latency.ttft")
    assert not result.regressed
    assert ttft.run is not None
    assert ttft.baseline is not None
    assert ttft.run / ttft.baseline > 1.25
    assert ttft.change is not None
    assert ttft.change < 1.05
    assert "against the dense model" in ttft.text


def test_a_regression_is_found_on_a_fast_or_slow_day(baseline: Report) -> None:
    """The dense model is the clock: 15 % slower is found whether the machine runs 10 % faster or slower."""
    for day in (0.9, 1.1):
        run = replace(baseline, latency=factory.latency(scale=1.15 * day, dense_scale=day, seed=7))
        assert "latency.ttft" in regressed(compare(run, baseline)), day


def test_new_software_that_slows_both_models_is_said(baseline: Report) -> None:
    """With other versions the cause cannot be told apart: inconclusive, not silent."""
    newer = replace(baseline.environment, versions={"onnxruntime": "1.33.0"})
    slow = factory.latency(scale=1.3, dense_scale=1.31, seed=5)
    result = compare(replace(baseline, latency=slow, environment=newer), baseline)
    ttft = next(row for row in result.checks if row.name == "latency.ttft")
    assert ttft.verdict == "inconclusive"
    assert "dense model became slower too" in ttft.text


def test_new_software_that_speeds_up_dense_only_is_no_regression(baseline: Report) -> None:
    """Slim as fast as before, dense faster: the ratio is worse, the deployed model is not."""
    newer = replace(baseline.environment, versions={"onnxruntime": "1.33.0"})
    run = replace(baseline, latency=factory.latency(dense_scale=0.8, seed=6), environment=newer)
    assert not compare(run, baseline).regressed


def test_another_machine_is_compared_by_its_dense_model(baseline: Report) -> None:
    """A twice slower machine: relative to dense nothing changed; without dense nothing can be said."""
    moved = replace(
        baseline,
        environment=replace(baseline.environment, cpu="Slow CPU"),
        latency=factory.latency(scale=2, dense_scale=2, seed=9),
    )
    result = compare(moved, baseline)
    timed = [row for row in result.checks if row.name.startswith("latency")]
    assert not regressed(result)
    assert all(row.change is not None and abs(row.change - 1) < 0.05 for row in timed)
    assert any(note.startswith("machine: Slow CPU") for note in result.notes)
    dense = factory.standard(pruned=False)
    moved = replace(dense, environment=moved.environment, latency=factory.latency(dense_scale=2, slim=False))
    verdicts = {c.verdict for c in compare(moved, dense).checks if c.name.startswith("latency")}
    assert verdicts == {"inconclusive"}


def test_dense_deployments_are_gated_too() -> None:
    """Where nothing was pruned the dense model is what is compared."""
    dense = factory.standard(pruned=False)
    slow = replace(dense, latency=factory.latency(dense_scale=1.15, slim=False, seed=3))
    assert "latency.ttft" in regressed(compare(slow, dense))


def test_a_single_round_proves_nothing(baseline: Report) -> None:
    """Timed once, a model is neither slower nor as fast: inconclusive, whatever the figure."""
    for scale in (0.5, 1.0, 2.0):
        run = replace(baseline, latency=factory.latency(scale=scale, n=1))
        timed = [c for c in compare(run, baseline).checks if c.name.startswith("latency")]
        assert {(c.verdict, c.low, c.high) for c in timed} == {("inconclusive", None, None)}
        assert all("too few rounds" in c.text for c in timed)


def test_failed_or_missing_verifications_regress(baseline: Report) -> None:
    """An artefact that no longer verifies is a regression, and so is a check that was left out."""
    first = baseline.verifications[0]
    failed = (check(first.name, "slim", 9, "equal to", 10), *baseline.verifications[1:])
    left_out = baseline.verifications[:-1]
    assert regressed(compare(replace(baseline, verifications=failed), baseline)) == {
        f"verification.{failed[0].name}"
    }
    assert regressed(compare(replace(baseline, verifications=left_out), baseline)) == {
        f"verification.{baseline.verifications[-1].name}"
    }


def test_a_candidate_that_needs_no_pruning_is_no_regression(baseline: Report) -> None:
    """What only a pruned model has (surgery, reload) is not asked of a dense one; the rest is."""
    parity = replace(baseline.verifications[2], model="dense")
    pruned = replace(baseline, verifications=(*baseline.verifications, parity))
    dense = replace(factory.standard(pruned=False), verifications=(parity,))

    def checks(run: Report, before: Report) -> dict[str, str]:
        found = compare(run, before).checks
        return {row.name: row.verdict for row in found if row.name.startswith("verification")}

    assert checks(dense, pruned) == {f"verification.{parity.name}": "pass"}
    left_out = replace(dense, verifications=())
    assert checks(left_out, pruned) == {f"verification.{parity.name}": "regressed"}
    # The other way round: the slim model must have what the dense one had.
    assert set(checks(pruned, dense).values()) == {"pass"}
    unchecked = replace(baseline, verifications=baseline.verifications[:2])
    assert checks(unchecked, dense)[f"verification.{parity.name}"] == "regressed"


def test_runs_of_unlike_kind_are_refused_by_field(baseline: Report) -> None:
    """Target, workload, runtime, questions: the message names the field and both values."""
    assert baseline.latency is not None
    assert baseline.accuracy is not None
    unlike = {
        r"target\.key": replace(baseline, target=replace(baseline.target, key="orin@15w")),
        r"workload\.prompt_tokens": replace(baseline, workload=replace(baseline.workload, prompt_tokens=9)),
        r"latency\.runtime": replace(baseline, latency=replace(baseline.latency, runtime="cuda")),
        r"latency\.threads": replace(baseline, latency=replace(baseline.latency, threads=8)),
        r"accuracy\.task": replace(baseline, accuracy=replace(baseline.accuracy, task="receipts")),
        r"accuracy\.sample_sha256": replace(
            baseline, accuracy=replace(baseline.accuracy, sample_sha256="0" * 64)
        ),
    }
    for field, other in unlike.items():
        with pytest.raises(InputError, match=field):
            compare(other, baseline)
    empty = replace(baseline, accuracy=None, latency=None)
    with pytest.raises(InputError, match="nothing to compare"):
        compare(empty, empty)


def test_files_in_junit_out(baseline: Report, tmp_path: Path) -> None:
    """Two run directories in; JUnit XML whose counts are the verdicts out."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    write_report(baseline, tmp_path / "old")
    write_report(replace(baseline, latency=factory.latency(scale=1.5, seed=2)), tmp_path / "new")
    result = run_check(tmp_path / "new", tmp_path / "old", junit=tmp_path / "check.xml")
    suite = ET.parse(tmp_path / "check.xml").getroot()[0]
    assert int(suite.attrib["tests"]) == len(result.checks) == len(suite.findall("testcase"))
    assert int(suite.attrib["failures"]) == len(regressed(result)) == len(suite.findall("*/failure")) > 0
    assert result.regressed
    assert plain(result)["checks"][0]["name"] == "accuracy.overall"


def test_junit_path_that_cannot_be_written(baseline: Report, tmp_path: Path) -> None:
    """A folder in the place of the XML file is bad input, not a crash."""
    write_report(baseline, tmp_path)
    with pytest.raises(InputError, match="is a directory where a file is needed"):
        run_check(tmp_path, tmp_path, junit=tmp_path)


def test_bad_tolerances_are_refused(tmp_path: Path) -> None:
    """A tolerance of 5 (instead of 5 %) would pass everything."""
    with pytest.raises(InputError, match="--latency-tolerance"):
        run_check(tmp_path, tmp_path, latency_tolerance=5)
    with pytest.raises(InputError, match="--confidence"):
        run_check(tmp_path, tmp_path, confidence=95)


def test_annotations_only_on_github(baseline: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """One escaped workflow command per regression inside GitHub Actions, none elsewhere."""
    result = compare(replace(baseline, latency=factory.latency(scale=1.5, seed=2)), baseline)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert github_annotations(result) == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines = github_annotations(result)
    assert len(lines) == len(regressed(result))
    assert all(line.startswith("::error title=latency.") and "%25" in line for line in lines)


def test_summary_names_verdict_and_what_differs(baseline: Report) -> None:
    """The last line is the verdict; versions that differ are listed before it."""
    newer = replace(baseline, environment=replace(baseline.environment, versions={"onnxruntime": "1.33.0"}))
    lines = summary_lines(compare(newer, baseline))
    assert lines[-1] == "no regression"
    assert "note onnxruntime: 1.33.0, baseline 1.32.0" in lines


def test_the_gate_starts_without_heavy_libraries() -> None:
    """CI runs the gate often: importing it loads no torch, no matplotlib, no scipy."""
    heavy = {"torch", "matplotlib", "scipy", "transformers", "onnxruntime", "jinja2"}
    code = f"import sys, topovlm.report.gate, topovlm.report.junit; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
