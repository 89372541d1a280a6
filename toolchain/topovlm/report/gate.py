"""Did the new run get worse than the baseline? `topovlm check RUN --baseline RUN`.

Two reports of like kind are compared on their stored raw samples; what counts as a regression is said in
`topovlm.report.answers` and `topovlm.report.comparisons`. Reports of unlike kind are refused, naming the
field that differs.
"""

from __future__ import annotations

import os
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.report.answers import accuracy_checks, benchmark_checks
from topovlm.report.checks import CheckResult
from topovlm.report.comparisons import latency_checks, machine, verification_checks
from topovlm.report.document import Accuracy, Benchmark, Latency, Report, Workload
from topovlm.report.gaps import additions, gaps, require_whole
from topovlm.report.junit import junit_xml
from topovlm.report.store import read_report, write_atomically
from topovlm.text import for_annotation, for_annotation_property


def run_check(
    run: str | Path,
    baseline: str | Path,
    *,
    latency_tolerance: float = 0.05,
    accuracy_tolerance: float = 0.01,
    confidence: float = 0.95,
    junit: str | Path | None = None,
) -> CheckResult:
    """Compare two run directories (or report.json files); write JUnit XML to `junit` when given.

    Raises `InputError` for an unreadable report, a tolerance out of range, and reports of unlike kind.
    """
    for name, value in (
        ("--latency-tolerance", latency_tolerance),
        ("--accuracy-tolerance", accuracy_tolerance),
    ):
        if not 0 <= value < 1:
            raise InputError(explain(name, value, "must lie between 0 and 1", "Write e.g. 0.05 for 5 %"))
    if not 0.5 < confidence < 1:
        raise InputError(explain("--confidence", confidence, "must lie between 0.5 and 1", "Write e.g. 0.95"))
    result = compare(
        read_report(run),
        read_report(baseline),
        latency_tolerance=latency_tolerance,
        accuracy_tolerance=accuracy_tolerance,
        confidence=confidence,
        names=(str(run), str(baseline)),
    )
    if junit is not None:
        write_atomically(junit, junit_xml(result))
    return result


def compare(
    run: Report,
    baseline: Report,
    *,
    latency_tolerance: float = 0.05,
    accuracy_tolerance: float = 0.01,
    confidence: float = 0.95,
    names: tuple[str, str] = ("run", "baseline"),
) -> CheckResult:
    """As `run_check`, on loaded reports."""
    require_whole(run, names[0], baseline=False)
    require_whole(baseline, names[1], baseline=True)
    require_comparable(run, baseline)
    missing = gaps(run, baseline)
    measured = (
        *accuracy_checks(run, baseline, accuracy_tolerance, confidence),
        *benchmark_checks(run, baseline, accuracy_tolerance, confidence),
        *latency_checks(run, baseline, latency_tolerance, confidence),
    )
    if not measured and not missing:
        rule = "the two reports have no answers and no timings in common: there is nothing to compare"
        raise InputError(explain("report", names[0], rule, "Give runs that measured something"))
    checks = (*missing, *measured, *verification_checks(run, baseline))
    return CheckResult(
        regressed=any(check.verdict == "regressed" for check in checks),
        run=names[0],
        baseline=names[1],
        checks=checks,
        notes=(*additions(run, baseline), *_notes(run, baseline)),
    )


def _kind(report: Report) -> dict[str, object]:
    """What must be equal before two reports may be compared, by the name of its field."""
    return {
        "target.key": report.target.key,
        "target.runtime": report.target.runtime,
        **_fields("workload", report.workload),
    }


def _kind_of_latency(latency: Latency) -> dict[str, object]:
    return {
        "latency.runtime": latency.runtime,
        "latency.variant": latency.variant,
        "latency.threads": latency.threads,
        **_fields("latency.workload", latency.workload),
    }


def _kind_of_accuracy(accuracy: Accuracy) -> dict[str, object]:
    return {"accuracy.task": accuracy.task, "accuracy.sample_sha256": accuracy.sample_sha256}


def _kind_of_benchmark(benchmark: Benchmark) -> dict[str, object]:
    name = f"benchmarks.{benchmark.name}"
    return {
        f"{name}.protocol": benchmark.protocol,
        f"{name}.answer_tokens": benchmark.answer_tokens,
        f"{name}.sample_sha256": benchmark.accuracy.sample_sha256,
    }


def _fields(name: str, workload: Workload) -> dict[str, object]:
    return {f"{name}.{field}": getattr(workload, field) for field in workload.__struct_fields__}


def require_comparable(run: Report, baseline: Report) -> None:
    """Raise `InputError` naming the first field in which two reports are of unlike kind.

    Of accuracy, benchmarks and latency only what both have is held against each other; what one lacks is no
    comparison.
    """
    ours, theirs = _kind(run), _kind(baseline)
    if run.latency and baseline.latency:
        ours |= _kind_of_latency(run.latency)
        theirs |= _kind_of_latency(baseline.latency)
    if run.accuracy and baseline.accuracy:
        ours |= _kind_of_accuracy(run.accuracy)
        theirs |= _kind_of_accuracy(baseline.accuracy)
    before = {one.name: one for one in baseline.benchmarks}
    for one in run.benchmarks:
        if one.name in before:
            ours |= _kind_of_benchmark(one)
            theirs |= _kind_of_benchmark(before[one.name])
    for name, value in ours.items():
        if theirs[name] != value:
            rule = f"differs from the baseline's {theirs[name]!r}: the two runs cannot be compared"
            remedy = "Make a baseline with the same target, workload, runtime and questions"
            if name.startswith("benchmarks."):
                remedy = "Make a baseline with the same --bench, data, --limit and --seed"
            raise InputError(explain(name, value, rule, remedy))


def _notes(run: Report, baseline: Report) -> list[str]:
    """What else differs, as sentences: a reader looks here first when a check is not a pass."""
    notes = []
    if machine(run) != machine(baseline):
        notes.append(f"machine: {run.environment.cpu}, baseline {baseline.environment.cpu}")
    if run.dense.weights_sha256 != baseline.dense.weights_sha256:
        notes.append("the dense models are not the same weights")
    layers = [(r.slim or r.dense).layers for r in (run, baseline)]
    if layers[0] != layers[1]:
        notes.append(f"decoder layers: {layers[0]}, baseline {layers[1]}")
    ours, theirs = run.environment.versions, baseline.environment.versions
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            notes.append(f"{name}: {ours.get(name, 'absent')}, baseline {theirs.get(name, 'absent')}")
    return notes


def github_annotations(result: CheckResult) -> list[str]:
    """Workflow commands that GitHub shows on the pull request; empty outside GitHub Actions."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    level = {"regressed": "error", "inconclusive": "warning"}
    return [
        f"::{level[check.verdict]} title={for_annotation_property(check.name)}::{for_annotation(check.text)}"
        for check in result.checks
        if check.verdict in level
    ]


def summary_lines(result: CheckResult) -> list[str]:
    """The result as plain text: one line per check, then what else differs, then the verdict."""
    mark = {"pass": "ok  ", "regressed": "FAIL", "inconclusive": "?   "}
    lines = [f"{mark[check.verdict]} {check.name}: {check.text}" for check in result.checks]
    lines += [f"note {note}" for note in result.notes]
    bad = sum(check.verdict == "regressed" for check in result.checks)
    unclear = sum(check.verdict == "inconclusive" for check in result.checks)
    verdict = f"{bad} of {len(result.checks)} checks regressed" if bad else "no regression"
    return [*lines, f"{verdict}{f', {unclear} inconclusive' if unclear else ''}"]
