"""Whether answers got worse: the deployed models of two runs on the same questions, paired.

The user's own questions and each public benchmark by itself. A regression is a loss beyond the tolerance for
which "no worse" is rejected at the confidence asked for, one-sided and with clusters counted: the user's
questions together by the interval of the paired difference; their categories, and the benchmarks, by exact
tests with Holm's correction, since many are looked at. Of a benchmark also the answers that could be read are
counted: a model that no longer answers in the form asked for is worse, whatever it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from topovlm.errors import InputError, explain
from topovlm.report.checks import GateCheck, Verdict
from topovlm.report.deployed import answer, deployed
from topovlm.report.document import Accuracy, Answer, Question, Report
from topovlm.stats import paired as stats
from topovlm.stats.interval import Interval


@dataclass(frozen=True)
class _Pairs:
    """Of the same questions: what the baseline's model got, the run's, and what shares a cluster."""

    old: list[float]
    new: list[float]
    groups: list[str]

    @property
    def p_worse(self) -> float:
        return stats.sign_flip_test([b - a for a, b in zip(self.old, self.new, strict=True)], self.groups)[1]

    def check(self, name: str, rules: _Rules, what: str, worse: bool | None, *, strict: bool) -> GateCheck:
        """`worse`: what a test says; None: the interval decides. `strict`: see `_verdict`."""
        gap = stats.paired_difference(self.old, self.new, self.groups, 2 * rules.confidence - 1)
        worse = gap.high < 0 if worse is None else worse
        verdict, text = _verdict(gap, worse, rules.tolerance, what, strict=strict)
        return GateCheck(
            name=name,
            verdict=verdict,
            text=f"{100 * gap.value:+.2f} points over {len(self.old)} questions: {text}",
            unit="share",
            run=sum(self.new) / len(self.new),
            baseline=sum(self.old) / len(self.old),
            change=gap.value,
            low=gap.low,
            high=gap.high,
            tolerance=rules.tolerance,
        )


@dataclass(frozen=True)
class _Rules:
    tolerance: float
    confidence: float

    def rejected(self, pairs: dict[str, _Pairs]) -> dict[str, bool]:
        """Name -> whether "no worse" is rejected, of all of them together (Holm)."""
        adjusted = stats.holm([one.p_worse for one in pairs.values()])
        return {name: p < 1 - self.confidence for name, p in zip(pairs, adjusted, strict=True)}


def accuracy_checks(run: Report, baseline: Report, tolerance: float, confidence: float) -> list[GateCheck]:
    """Overall and per category, of what both answered. Raises `InputError` where questions differ."""
    if not run.accuracy or not baseline.accuracy:
        return []
    rules = _Rules(tolerance, confidence)
    both = _both(run, baseline, run.accuracy, baseline.accuracy, "accuracy")
    if not both:
        return []
    categories = list(dict.fromkeys(question.category for question, _, _ in both))
    parts = {name: _scores([one for one in both if one[0].category == name]) for name in categories}
    worse = rules.rejected(parts)
    checks = [_scores(both).check("accuracy.overall", rules, "a loss", None, strict=True)]
    if len(categories) > 1:
        checks += [
            part.check(f"accuracy.{name}", rules, "a loss", worse[name], strict=False)
            for name, part in parts.items()
        ]
    return checks


def benchmark_checks(run: Report, baseline: Report, tolerance: float, confidence: float) -> list[GateCheck]:
    """Per benchmark that both asked: right answers, and answers that could be read.

    Raises `InputError` where a benchmark was asked otherwise.
    """
    rules = _Rules(tolerance, confidence)
    before = {one.name: one for one in baseline.benchmarks}
    asked = {
        one.name: _both(run, baseline, one.accuracy, before[one.name].accuracy, f"benchmarks.{one.name}")
        for one in run.benchmarks
        if one.name in before
    }
    asked = {name: both for name, both in asked.items() if both}
    right = {name: _scores(both) for name, both in asked.items()}
    read = {name: _read(both) for name, both in asked.items()}
    fewer_right, fewer_read = rules.rejected(right), rules.rejected(read)
    checks = []
    for name in asked:
        place, unread = f"benchmarks.{name}", "a loss of answers that can be read"
        checks += [
            right[name].check(place, rules, "a loss", fewer_right[name], strict=True),
            read[name].check(f"{place}.read", rules, unread, fewer_read[name], strict=False),
        ]
    return checks


_Both = tuple[Question, Answer, Answer]  # the baseline's answer, the run's


def _both(run: Report, baseline: Report, ours: Accuracy, theirs: Accuracy, field: str) -> list[_Both]:
    """Questions that the deployed models of both answered. Raises `InputError` for one that differs."""
    asked = {question.id: question for question in theirs.questions}

    def found() -> Iterator[_Both]:
        for question in ours.questions:
            before = _same(question, asked.get(question.id), field)
            old, new = answer(before, deployed(baseline)), answer(question, deployed(run))
            if old is not None and new is not None:
                yield question, old, new

    return list(found())


def _same(question: Question, before: Question | None, name: str) -> Question:
    """Raise `InputError` for a question that is not, or not so, in the baseline."""
    if before is None:
        raise InputError(explain(f"{name}.questions", question.id, "is no question of the baseline"))
    for field in ("group", "category", "metric", "chance", "answer"):
        ours, theirs = getattr(question, field), getattr(before, field)
        if ours != theirs:
            rule = f"of question {question.id} differs from the baseline's {theirs!r}"
            raise InputError(explain(f"{name}.questions.{field}", ours, rule))
    return before


def _scores(both: Sequence[_Both]) -> _Pairs:
    return _Pairs([a.score for _, a, _ in both], [b.score for _, _, b in both], [q.group for q, _, _ in both])


def _read(both: Sequence[_Both]) -> _Pairs:
    def read(said: Answer) -> float:
        return float(said.parse == "parsed")

    return _Pairs([read(a) for _, a, _ in both], [read(b) for _, _, b in both], [q.group for q, _, _ in both])


def _verdict(gap: Interval, worse: bool, tolerance: float, what: str, *, strict: bool) -> tuple[Verdict, str]:
    """`strict`: a pass needs proof that the loss is within the tolerance, not just no sign of a loss."""
    limit = f"{100 * tolerance:g} point{'' if tolerance == 0.01 else 's'}"
    none = what.replace("a loss", "no loss", 1)
    if gap.value < -tolerance and worse:
        return "regressed", f"{what} beyond {limit} that noise does not explain"
    if gap.low >= -tolerance:
        return "pass", f"{none} beyond {limit}"
    if not strict and gap.value >= -tolerance:
        return "pass", f"{none} beyond {limit} seen"
    return "inconclusive", f"{what} of {-100 * gap.low:.2f} points cannot be excluded; ask more questions"
