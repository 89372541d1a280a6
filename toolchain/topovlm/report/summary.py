"""The first screen: does it fit, is it still right, will it load, can I trust the numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from topovlm.report import budgets, formats
from topovlm.report.budgets import Status
from topovlm.report.document import CategoryAccuracy, Figure, Report, phase_times

_FINE = 0.02  # share: a loss below two points is called none when the interval excludes more
_LINES = 5  # per card: the first screen stays one screen
STATUS_WORDS: dict[Status, str] = {"yes": "yes", "partly": "partly", "no": "no", "unknown": "not shown"}


@dataclass(frozen=True)
class Card:
    """One question with its answer: `headline` is the figure, `detail` what it rests on."""

    question: str
    status: Status
    headline: str
    detail: tuple[str, ...]
    kind: str = ""  # "measured", "predicted" or ""


def verdict(report: Report) -> str:
    """What was done to the model, for which target and budget."""
    name, layers = report.dense.name, report.dense.layers
    done = f"all {layers} decoder layers kept"
    if report.slim is not None:
        done = f"{report.slim.layers} of {layers} decoder layers kept (“slim” below)"
    asked = _asked(report)
    budget = f" Budget: {', '.join(asked)}." if asked else ""
    return f"{name}: {done}. Target: {report.target.board} ({report.target.mode}).{budget}"


def _asked(report: Report) -> list[str]:
    """Every budget as it was asked for."""
    budget = report.budget
    words = []
    if budget.bounds_latency:
        words.append(f"{formats.phase_name(budget.latency_phase)} {budgets.asked_latency(report)}")
    if budget.max_token_latency_ms is not None:
        words.append(f"{formats.milliseconds(budget.max_token_latency_ms)} per token")
    if budget.max_memory_bytes is not None:
        words.append(f"{formats.number(budget.max_memory_bytes, 'bytes')} of memory")
    if budget.sparsity is not None:
        words.append(f"at least {100 * budget.sparsity:g} % of the layers dropped")
    return words


def cards(report: Report) -> tuple[Card, ...]:
    """The four answers."""
    return tuple(_short(card) for card in (_fits(report), _right(report), _loads(report), _trust(report)))


def _short(card: Card) -> Card:
    if len(card.detail) <= _LINES:
        return card
    hidden = len(card.detail) - _LINES + 1
    return replace(card, detail=(*card.detail[: _LINES - 1], f"and {hidden} more remarks below"))


def _fits(report: Report) -> Card:
    """The worst of the budgets is the answer; the others stand below it."""
    question, phase = "Does it fit?", report.budget.latency_phase
    found = sorted(budgets.verdicts(report), key=lambda item: budgets.SEVERITY.index(item.status))
    figure = budgets.deployed_phase(report, phase)
    detail = [f"{item.headline}: {item.status}{f' ({item.kind})' if item.kind else ''}" for item in found[1:]]
    if figure is not None:
        text = f"{formats.phase_name(phase)} on {report.target.board}: {formats.figure_text(figure)}"
        detail.append(f"{text}, {figure.kind}")
    timed = phase_times(report, phase)
    if timed and timed.ratio and timed.slim and report.latency:
        here = "" if report.latency.is_target else " (not the target)"
        dense, slim = formats.milliseconds(timed.dense.value), formats.milliseconds(timed.slim.value)
        detail.append(
            f"dense {dense} → slim {slim}, "
            f"{formats.figure_text(timed.ratio)}, measured on {report.latency.where}{here}"
        )
    memory = budgets.deployed_memory(report)
    if memory and report.budget.max_memory_bytes is None:
        detail.append(f"memory at its peak: {formats.number(memory.value, 'bytes')}, {memory.kind}")
    if not found:
        if figure is None:
            reason = ("neither measured nor predicted",)
            return Card(question, "unknown", "no latency for the target", (*reason, *detail))
        headline = f"{formats.milliseconds(figure.value)}, no budget given"
        return Card(question, "unknown", headline, tuple(detail), figure.kind)
    worst = found[0]
    if worst.why:
        floor = f"; the floor is {report.plan.floor}: {report.plan.floor_text}"
        named = worst.status == "no" and report.plan.floor != "none"
        detail.insert(0, worst.why + (floor if named else ""))
    return Card(question, worst.status, worst.headline, tuple(detail), worst.kind)


def _right(report: Report) -> Card:
    question = "Is it still right?"
    if report.accuracy is None:
        return Card(
            question, "unknown", "no accuracy was measured", ("there were no questions with answers",)
        )
    overall = report.accuracy.overall
    on = f"{formats.count(overall.n)} questions, {report.accuracy.sample_source}"
    if overall.slim is None or overall.difference is None:
        headline = f"{_score(overall, overall.dense)}, nothing was removed"
        return Card(
            question,
            "yes",
            headline,
            (on, f"guessing: {formats.number(overall.chance, 'share')}"),
            "measured",
        )
    headline = f"{_score(overall, overall.slim)}, dense {formats.number(overall.dense.value, 'share')}"
    detail = [f"difference {formats.figure_text(overall.difference, as_points=True)}, paired on {on}"]
    if overall.retention_corrected:
        detail.append(f"keeps {_percent(overall.retention_corrected)} of what dense knows beyond guessing")
    lost = [found.category for found in report.accuracy.categories if _at_chance(found)]
    if _guesses(overall):
        chance = formats.number(overall.chance, "share")
        detail.insert(0, f"the dense model itself is not clearly better than guessing ({chance})")
    if _at_chance(overall):
        detail.insert(0, "the deployed model is not clearly better than guessing any more")
    if lost:
        detail.append(f"no better than guessing now: {', '.join(lost)}")
    return Card(question, _right_status(overall, bool(lost)), headline, tuple(detail), "measured")


def _score(summary: CategoryAccuracy, figure: Figure) -> str:
    """`85.1 % right` where answers are right or wrong, `score 71.2 %` where they are graded."""
    share = formats.number(figure.value, "share")
    return f"{share} right" if summary.binary else f"score {share}"


def _percent(figure: Figure) -> str:
    ends = (
        ""
        if figure.low is None or figure.high is None
        else f" ({100 * figure.low:.1f} to {100 * figure.high:.1f} %)"
    )
    return f"{100 * figure.value:.1f} %{ends}"


def _at_chance(summary: CategoryAccuracy) -> bool:
    """Dense was clearly above chance, slim is not."""
    if summary.slim is None or summary.slim.low is None or summary.dense.low is None or summary.chance == 0:
        return False
    return summary.dense.low > summary.chance >= summary.slim.low


def _right_status(overall: CategoryAccuracy, lost: bool) -> Status:
    gap = overall.difference
    if gap is None or gap.low is None or gap.high is None or _guesses(overall):
        return "unknown"
    if _at_chance(overall):
        return "no"
    # A yes needs a loss that is neither shown nor, to a fine resolution, possible.
    return "yes" if gap.high >= 0 and gap.low >= -_FINE and not lost else "partly"


def _guesses(overall: CategoryAccuracy) -> bool:
    """The dense model is not clearly better than chance: there is nothing to keep."""
    return overall.dense.low is not None and overall.dense.low <= overall.chance


def _loads(report: Report) -> Card:
    question = "Will the artefact load?"
    checks = [check for check in report.verifications if check.rule]  # the others state facts
    failed = [check.name for check in checks if not check.passed]
    deployed = "slim" if report.slim else "dense"
    items = [item for item in report.artifacts if item.model == deployed]
    detail = [
        f"{item.path}: {item.words}, {formats.number(item.bytes, 'bytes')}"
        f"{f', for {clients}' if (clients := ', '.join(item.loads_in)) else ''}"
        for item in items
    ]
    total = len(checks)
    if failed:
        headline = f"{len(failed)} of {total} checks failed: {', '.join(failed)}"
        return Card(question, "no", headline, tuple(detail), "measured")
    if not total:
        return Card(question, "unknown", "the artefacts were not checked", tuple(detail))
    headline = f"{total} of {total} checks passed"
    unchecked = list(dict.fromkeys(item.words for item in items if not item.checked))
    if unchecked:
        checked = " and ".join(dict.fromkeys(item.words for item in items if item.checked))
        names = ", ".join(unchecked)
        detail.insert(0, f"checked: {checked or 'other files'}; only written, not loaded here: {names}")
        return Card(question, "partly", f"{headline}, {names} not checked", tuple(detail), "measured")
    return Card(question, "yes", headline, tuple(detail), "measured")


def _trust(report: Report) -> Card:
    question = "Can I trust the numbers?"
    detail, doubts = [], list(report.latency.warnings) if report.latency else []
    if report.latency:
        rounds = max((p.dense.n or 0 for p in report.latency.phases), default=0)
        turns = ", the two models in turns" if report.slim else ""
        where = "" if report.latency.is_target else " on this machine, which is not the target"
        detail.append(
            f"latency{where}: median of {rounds} timed rounds{turns}, 95 % intervals, raw samples kept"
        )
    if report.accuracy:
        unparsed = (report.accuracy.overall.slim_unparsed or 0) + report.accuracy.overall.dense_unparsed
        counted = "wrong" if report.accuracy.overall.binary else "0"
        answers = (
            f"{unparsed} unparsed answers counted as {counted}" if unparsed else "every answer was parsed"
        )
        detail.append(f"accuracy: same questions, exported graphs; {answers}")
    on_target = bool(report.latency and report.latency.is_target)
    if on_target:
        measured = "latency and accuracy are" if report.accuracy else "latency is"
        apart = "" if report.accuracy else ", accuracy is not"
        headline = f"{measured} measured here{apart}{', with doubts' if doubts else ''}"
    elif report.plan.rows:
        headline = f"figures for {report.target.board} are predictions"
        detail.append(f"predicted: {report.plan.source}")
    else:
        headline = "no latency was timed or predicted"
    if len(doubts) > 1:
        detail.append(f"caution: {doubts[0]}; {len(doubts) - 1} more below")
    else:
        detail += [f"caution: {doubt}" for doubt in doubts]
    detail += [f"not shown: {limit}" for limit in report.provenance.limits]
    status: Status = "yes" if on_target and report.accuracy and not doubts else "partly"
    kind = "measured" if on_target else "predicted" if report.plan.rows else ""
    return Card(question, status, headline, tuple(detail), kind)
