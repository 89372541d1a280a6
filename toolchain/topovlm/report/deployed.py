"""What of a report is about the model that it deploys: the slim one, or dense where nothing was pruned."""

from __future__ import annotations

from topovlm.report.document import Answer, Figure, MemoryUse, PhaseTimes, Question, Report, Which


def deployed(report: Report) -> Which:
    """Which of the two models the report deploys."""
    return "slim" if report.slim else "dense"


def answer(question: Question, which: Which) -> Answer | None:
    """That model's answer; None where it gave none. Never the other model's."""
    return question.slim if which == "slim" else question.dense


def samples_ms(phase: PhaseTimes, which: Which) -> tuple[float, ...]:
    """That model's timings of a phase; empty where it was not timed."""
    return phase.slim_samples_ms if which == "slim" else phase.dense_samples_ms


def figure(item: PhaseTimes | MemoryUse, which: Which) -> Figure | None:
    """That model's figure; None where there is none."""
    return item.slim if which == "slim" else item.dense
