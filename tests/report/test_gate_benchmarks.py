"""The gate on public benchmarks: lost answers and unread ones are found, noise and clusters are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.report import factory
from topovlm import cli
from topovlm.errors import InputError
from topovlm.report.checks import CheckResult
from topovlm.report.document import Benchmark, Report
from topovlm.report.gate import compare
from topovlm.report.store import write_report

replace = msgspec.structs.replace
RNG = np.random.default_rng(3)
DENSE = [float(value) for value in RNG.random(400) < 0.7]
SLIM = [score and float(keeps) for score, keeps in zip(DENSE, RNG.random(400) < 0.9, strict=True)]


def benched(*benchmarks: Benchmark) -> Report:
    """A report that measured these and nothing else."""
    return replace(factory.standard(), accuracy=None, latency=None, benchmarks=benchmarks)


BASELINE = benched(
    factory.benchmark("ai2d", DENSE, SLIM, cluster=2), factory.benchmark("chartqa-strict", DENSE, SLIM)
)


def verdicts(result: CheckResult) -> dict[str, str]:
    return {row.name: row.verdict for row in result.checks if row.name.startswith("benchmarks")}


def with_slim(slim: Sequence[float], unread: int = 0) -> CheckResult:
    """AI2D answered so, the other benchmark as before."""
    run = benched(factory.benchmark("ai2d", DENSE, slim, unread=unread, cluster=2), BASELINE.benchmarks[1])
    return compare(run, BASELINE)


def flipped(scores: Sequence[float], places: Sequence[int]) -> list[float]:
    return [1 - score if place in places else score for place, score in enumerate(scores)]


def test_equal_runs_pass() -> None:
    """Right answers and readable ones, of each benchmark by its name."""
    names = ["benchmarks.ai2d", "benchmarks.chartqa-strict"]
    assert verdicts(with_slim(SLIM)) == {name + end: "pass" for name in names for end in ("", ".read")}


def test_lost_answers_are_found_by_name() -> None:
    """Five points of one benchmark: that one fails, with both shares and the bounds of the change."""
    right = [place for place, score in enumerate(SLIM) if score]
    result = with_slim(flipped(SLIM, right[:20]))
    found = verdicts(result)
    assert found.pop("benchmarks.ai2d") == "regressed"
    assert set(found.values()) == {"pass"}
    row = next(row for row in result.checks if row.name == "benchmarks.ai2d")
    assert row.change == pytest.approx(-0.05)
    assert row.run == pytest.approx(sum(SLIM) / 400 - 0.05)
    assert row.low is not None
    assert row.high is not None
    assert row.low < -0.05 < row.high < 0
    assert "a loss beyond 1 point that noise does not explain" in row.text


def test_a_model_that_forgets_the_form_is_found() -> None:
    """As many right answers, but wrong ones that cannot be read any more."""
    result = with_slim(SLIM, unread=40)
    found = verdicts(result)
    assert found.pop("benchmarks.ai2d.read") == "regressed"
    assert set(found.values()) == {"pass"}
    row = next(row for row in result.checks if row.name == "benchmarks.ai2d.read")
    assert (row.run, row.baseline) == (0.9, 1.0)
    assert "a loss of answers that can be read beyond 1 point" in row.text


def test_flips_both_ways_are_noise() -> None:
    """As many answers lost as mended: neither a failure nor proof."""
    right = [place for place, score in enumerate(SLIM) if score]
    wrong = [place for place, score in enumerate(SLIM) if not score]
    found = verdicts(with_slim(flipped(SLIM, right[:8] + wrong[:8])))
    assert found["benchmarks.ai2d"] == "inconclusive"
    assert "regressed" not in found.values()
    assert set(verdicts(with_slim(flipped(SLIM, wrong[:30]))).values()) == {"pass"}


@pytest.mark.parametrize(("cluster", "verdict"), [(1, "regressed"), (10, "inconclusive")])
def test_a_lost_picture_is_one_loss(cluster: int, verdict: str) -> None:
    """Ten questions about one picture say as much as one: alone it is no proof."""
    slim = [1.0] * 60
    before, after = (
        benched(factory.benchmark("ai2d", slim, scores, cluster=cluster))
        for scores in (slim, flipped(slim, range(10)))
    )
    assert verdicts(compare(after, before))["benchmarks.ai2d"] == verdict


def test_ten_benchmarks_are_ten_chances_of_a_false_alarm() -> None:
    """Five answers lost of one are a failure alone (p = 1/32), and not among ten (Holm)."""
    slim = [1.0] * 60
    others = tuple(factory.benchmark(f"other-{number}", slim, slim) for number in range(9))
    before, after = (factory.benchmark("ai2d", slim, s) for s in (slim, flipped(slim, range(5))))
    assert verdicts(compare(benched(after), benched(before)))["benchmarks.ai2d"] == "regressed"
    among = compare(benched(after, *others), benched(before, *others))
    assert verdicts(among)["benchmarks.ai2d"] == "inconclusive"


def test_benchmarks_that_were_asked_otherwise_are_refused() -> None:
    """Another protocol, longer answers, other questions: named, with what makes a baseline."""
    ai2d = BASELINE.benchmarks[0]
    other = replace(ai2d, accuracy=replace(ai2d.accuracy, sample_sha256="0" * 64))
    unlike = {
        r"benchmarks\.ai2d\.protocol": replace(ai2d, protocol="strict"),
        r"benchmarks\.ai2d\.answer_tokens": replace(ai2d, answer_tokens=128),
        r"benchmarks\.ai2d\.sample_sha256.*--limit": other,
    }
    for field, changed in unlike.items():
        with pytest.raises(InputError, match=field):
            compare(benched(changed), BASELINE)
    renamed = replace(ai2d.accuracy.questions[0], category="other")
    changed = replace(
        ai2d, accuracy=replace(ai2d.accuracy, questions=(renamed, *ai2d.accuracy.questions[1:]))
    )
    with pytest.raises(InputError, match=r"benchmarks\.ai2d\.questions\.category"):
        compare(benched(changed), BASELINE)


def test_what_only_the_run_asked_is_a_note() -> None:
    """And what only the baseline asked is a failure (`test_gaps`)."""
    result = compare(BASELINE, benched(BASELINE.benchmarks[0]))
    assert "benchmarks.chartqa-strict: asked in this run only, not compared" in result.notes
    assert set(verdicts(result)) == {"benchmarks.ai2d", "benchmarks.ai2d.read"}
    lacking = compare(benched(BASELINE.benchmarks[0]), BASELINE)
    assert verdicts(lacking)["benchmarks.chartqa-strict"] == "regressed"


def test_dense_deployments_are_compared_too() -> None:
    """Where nothing was pruned it is the dense model that the benchmarks are of."""
    plain = replace(factory.standard(pruned=False), accuracy=None, latency=None)
    before, after = (
        replace(plain, benchmarks=(factory.benchmark("ai2d", scores, None),))
        for scores in (DENSE, flipped(DENSE, [n for n, s in enumerate(DENSE) if s][:30]))
    )
    assert verdicts(compare(after, before))["benchmarks.ai2d"] == "regressed"


def test_the_exit_code_is_that_of_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`topovlm check` on two run directories: 4, the check in the text, in JSON and in the JUnit file."""
    right = [place for place, score in enumerate(SLIM) if score]
    worse = benched(factory.benchmark("ai2d", DENSE, flipped(SLIM, right[:20]), cluster=2))
    before = benched(BASELINE.benchmarks[0])
    for name, report in (("old", before), ("new", worse)):
        (tmp_path / name).mkdir()
        write_report(report, tmp_path / name)
    words = ["check", str(tmp_path / "new"), "--baseline", str(tmp_path / "old")]
    assert cli.main([*words, "--json", "--junit", str(tmp_path / "check.xml")]) == 4
    printed = capsys.readouterr()
    assert {row["name"]: row["verdict"] for row in json.loads(printed.out)["checks"]}[
        "benchmarks.ai2d"
    ] == "regressed"
    assert "FAIL benchmarks.ai2d: -5.00 points over 400 questions" in printed.err
    assert 'classname="topovlm.benchmarks" name="ai2d"' in (tmp_path / "check.xml").read_text()
    assert cli.main([*words, "--accuracy-tolerance", "6%"]) == 0
