"""What the baseline has and a run lacks: each is a failure of its own, named, never a comparison left out.

What a report cannot be without contradicting itself is refused instead, for the run and the baseline alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from topovlm.errors import InputError, explain, located
from topovlm.report.checks import GateCheck
from topovlm.report.deployed import answer, deployed, figure, samples_ms
from topovlm.report.document import Accuracy, Latency, PhaseTimes, Report, Which
from topovlm.stats import timing

_NAMED = 5  # missing questions that are listed
_REMEDY = "Deploy again: parts of this report were taken out, or it was put together from two runs"


def gaps(run: Report, baseline: Report) -> list[GateCheck]:
    """One failed check per part of the baseline that the run does not have."""
    found = (
        *_accuracy(run, baseline),
        *_benchmarks(run, baseline),
        *_latency(run, baseline),
        *_artifacts(run, baseline),
    )
    return [GateCheck(name=name, verdict="regressed", text=text) for name, text in found]


def _accuracy(run: Report, baseline: Report) -> Iterator[tuple[str, str]]:
    if baseline.accuracy is None:
        return
    if run.accuracy is None:
        yield "accuracy", "measured in the baseline and not in this run"
        return
    yield from _answers("accuracy", deployed(run), run.accuracy, baseline.accuracy)
    for name in _lost(_categories(baseline.accuracy), _categories(run.accuracy)):
        yield f"accuracy.{name}", "a category of the baseline that this run does not have"


def _benchmarks(run: Report, baseline: Report) -> Iterator[tuple[str, str]]:
    asked = {one.name: one for one in run.benchmarks}
    for before in baseline.benchmarks:
        name = f"benchmarks.{before.name}"
        if before.name in asked:
            yield from _answers(name, deployed(run), asked[before.name].accuracy, before.accuracy)
        else:
            yield name, "asked in the baseline and not in this run"


def _answers(name: str, which: Which, ours: Accuracy, theirs: Accuracy) -> Iterator[tuple[str, str]]:
    missing = _lost([question.id for question in theirs.questions], [q.id for q in ours.questions])
    if missing:
        yield f"{name}.questions", f"{_listed(missing)} of the baseline: not answered in this run"
    silent = [question.id for question in ours.questions if answer(question, which) is None]
    if silent:
        yield f"{name}.answers", f"the {which} model did not answer {_listed(silent)}"


def _categories(accuracy: Accuracy) -> list[str]:
    return [summary.category for summary in accuracy.categories]


def _latency(run: Report, baseline: Report) -> Iterator[tuple[str, str]]:
    if baseline.latency is None:
        return
    if run.latency is None:
        yield "latency", "measured in the baseline and not in this run"
        return
    which = deployed(run)
    phases = [phase.phase for phase in run.latency.phases if samples_ms(phase, which)]
    for name in _lost([phase.phase for phase in baseline.latency.phases], phases):
        yield f"latency.{name}", f"timed in the baseline, and of the {which} model not in this run"
    for name in _lost(_memory(baseline.latency), _memory(run.latency, run)):
        yield f"memory.{name}", f"measured in the baseline, and of the {which} model not in this run"


def _memory(latency: Latency, report: Report | None = None) -> list[str]:
    """Rows of the memory table; with a report, those that have a figure of its deployed model."""
    return [use.name for use in latency.memory if report is None or figure(use, deployed(report))]


def _artifacts(run: Report, baseline: Report) -> Iterator[tuple[str, str]]:
    """By path where both deploy the same model; otherwise by format, of what both deploy."""
    if deployed(run) == deployed(baseline):
        here = [f"{item.path} ({item.format}, {item.model})" for item in run.artifacts]
        there = [f"{item.path} ({item.format}, {item.model})" for item in baseline.artifacts]
    else:
        here = [item.format for item in run.artifacts if item.model == deployed(run)]
        there = [item.format for item in baseline.artifacts if item.model == "dense"]
    for name in _lost(there, here):
        yield f"artifact.{name}", "written in the baseline and not in this run"


def _lost(before: Iterable[str], after: Iterable[str]) -> list[str]:
    kept = set(after)
    return [name for name in dict.fromkeys(before) if name not in kept]


def _listed(ids: list[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{len(ids)} question{'s' if len(ids) > 1 else ''} ({', '.join(ids[:_NAMED])}{more})"


def additions(run: Report, baseline: Report) -> list[str]:
    """What the run has and the baseline lacks, as notes: it could not be compared."""
    notes = []
    for name in ("accuracy", "latency"):
        if getattr(baseline, name) is None:
            had = "neither run" if getattr(run, name) is None else "this run only"
            notes.append(f"{name}: measured in {had}, not compared")
    added = _lost(*([one.name for one in report.benchmarks] for report in (run, baseline)))
    notes += [f"benchmarks.{name}: asked in this run only, not compared" for name in added]
    if run.latency and baseline.latency:
        added = _lost(*([phase.phase for phase in timed.phases] for timed in (run.latency, baseline.latency)))
        notes += [f"latency.{name}: timed in this run only, not compared" for name in added]
    return notes


def require_whole(report: Report, name: str, *, baseline: bool) -> None:
    """Raise `InputError` for a report whose parts contradict each other; `name` is its file.

    A run that lacks what its deployed model should have said fails the gate (`gaps`); a baseline that does
    cannot be compared with.
    """
    try:
        if report.accuracy:
            _require_answers(report, report.accuracy, "accuracy", baseline)
        for one in report.benchmarks:
            _require_answers(report, one.accuracy, f"benchmarks.{one.name}", baseline)
        for phase in report.latency.phases if report.latency else ():
            _require_samples(report, phase, baseline)
    except InputError as error:
        raise InputError(located(error, name)) from None


def _require_answers(report: Report, accuracy: Accuracy, name: str, baseline: bool) -> None:
    answered = accuracy.questions[0].slim is not None
    if answered and report.slim is None:
        rule = "holds answers of a slim model, and the report has none"
        raise InputError(explain(f"{name}.questions", len(accuracy.questions), rule, _REMEDY))
    if baseline and report.slim and not answered:
        rule = "holds no answers of the slim model"
        raise InputError(explain(f"{name}.questions", len(accuracy.questions), rule, _REMEDY))


def _require_samples(report: Report, phase: PhaseTimes, baseline: bool) -> None:
    field, which = f"latency.phases.{phase.phase}", deployed(report)
    if phase.slim_samples_ms and report.slim is None:
        rule = "holds timings of a slim model, and the report has none"
        raise InputError(explain(field, len(phase.slim_samples_ms), rule, _REMEDY))
    samples, shown = samples_ms(phase, which), figure(phase, which)
    if baseline and not samples:
        raise InputError(explain(field, 0, f"holds no timings of the {which} model", _REMEDY))
    counts = len(phase.dense_samples_ms), len(phase.slim_samples_ms)
    if phase.ratio and counts[0] != counts[1]:
        rule = "the two models were timed in turns, and have different numbers of timings"
        raise InputError(explain(field, counts, rule, _REMEDY))
    claimed = (shown.n or 0) if shown else 0
    if samples and len(samples) < timing.least_samples() <= claimed:
        rule = f"tells of {claimed} timings and holds too few of them to compare"
        raise InputError(explain(field, len(samples), rule, _REMEDY))
