"""Accuracy by category, and the questions whose outcome changed."""

from __future__ import annotations

from topovlm.report import formats
from topovlm.report.document import CategoryAccuracy, Figure, Question, Report
from topovlm.report.formats import ABSENT, count, figure_text, number
from topovlm.report.tables.shape import Section, table

_CHANGED_SHOWN = 12


def _category_row(summary: CategoryAccuracy) -> tuple[str, ...]:
    changed = ABSENT
    if summary.worse is not None:
        changed = f"{summary.worse} / {summary.better}"
    unparsed = f"{summary.dense_unparsed} / {count(summary.slim_unparsed)}"
    return (
        summary.category,
        count(summary.n),
        number(summary.chance, "share"),
        figure_text(summary.dense),
        figure_text(summary.slim),
        figure_text(summary.difference, as_points=True).replace(" points", ""),
        changed,
        formats.p_value(summary.p),
        _share(summary.retention),
        _share(summary.retention_corrected),
        unparsed,
    )


def _share(figure: Figure | None) -> str:
    return number(figure.value, "share") if figure else ABSENT


def accuracy_section(report: Report) -> Section | None:
    accuracy = report.accuracy
    if accuracy is None:
        return None
    right, figure = ("right", "share right") if accuracy.overall.binary else ("score", "mean score")
    header = (
        f"category|questions|chance|dense {right}|slim {right}|difference in points|lost / gained|p|kept|"
        "kept beyond chance|unparsed"
    )
    rows = [_category_row(summary) for summary in (accuracy.overall, *accuracy.categories)]
    tables = [
        table(
            f"Accuracy per category, measured: {figure} (95 % interval); unparsed: dense / slim", header, rows
        )
    ]
    changed = [q for q in accuracy.questions if q.slim and q.slim.score != q.dense.score]
    changed.sort(key=lambda q: (_gain(q) > 0, q.category))
    if changed:
        shown = _spread(changed, _CHANGED_SHOWN)
        answers = [
            (q.id, q.category, q.answer, q.dense.text, q.slim.text if q.slim else ABSENT) for q in shown
        ]
        caption = f"Questions whose outcome changed: {len(shown)} of {len(changed)} (all are in report.json)"
        tables.append(
            table(caption, "question|category|right answer|dense said|slim said", answers, long=True)
        )
    text = [f"Questions: {accuracy.sample_source}. Answered by {accuracy.source}.", accuracy.method]
    if report.latency and report.latency.variant not in accuracy.source:
        text.append(
            f"The {report.latency.variant} graph that was timed answered none of them: that it agrees with "
            "the model is among the checks below."
        )
    return Section("accuracy", "Accuracy", tuple(text), ("accuracy",), tuple(tables))


def _gain(question: Question) -> float:
    return question.slim.score - question.dense.score if question.slim else 0.0


def _spread(items: list[Question], limit: int) -> list[Question]:
    """At most `limit` items, evenly spread over the list."""
    if len(items) <= limit:
        return items
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
