"""Raw results -> the accuracy and latency parts of the report, with every interval computed in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from topovlm.errors import InputError, explain
from topovlm.evaluation.evaluate import Outcome, outcomes_sha256, pair
from topovlm.report.document import (
    PHASES,
    Accuracy,
    Answer,
    CategoryAccuracy,
    Figure,
    Latency,
    MemoryUse,
    PhaseTimes,
    Question,
    Which,
    Workload,
)
from topovlm.stats import paired as stats
from topovlm.stats import timing as timing_stats
from topovlm.stats.interval import Interval

ACCURACY_METHOD = (
    "Both models answer the same questions by greedy decoding through their exported graphs; an answer that "
    "cannot be parsed is wrong. Shares: Wilson interval; difference slim - dense: Newcombe's paired interval "
    "(method 10); both at the effective sample size of the picture clusters. p: exact McNemar test (sign "
    "flips of whole clusters). Retention: seeded paired bootstrap. Intervals at 95 %."
)
GRADED_METHOD = (
    "Both models answer the same questions by greedy decoding through their exported graphs; an answer "
    "scores between 0 and 1, one that cannot be parsed 0. Where scores are graded: t intervals of the mean "
    "and of the mean difference slim - dense, with the half pairs of Agresti and Min; where all are right or "
    "wrong: Wilson's and Newcombe's paired interval (method 10); all at the effective sample size of the "
    "picture clusters. p: exact sign flips of whole clusters. Retention: seeded paired bootstrap. Intervals "
    "at 95 %."
)
LATENCY_METHOD = (
    "Dense and slim timed in turns in one process after warm-up. Median with a seeded block-bootstrap "
    "interval; slim / dense is the median of the rounds' ratios. Intervals at 95 %, from six rounds on."
)


def _figure(interval: Interval | None, unit: str, source: str, n: int) -> Figure | None:
    if interval is None:
        return None
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return Figure(
        value=interval.value,
        unit=unit,
        kind="measured",
        source=source,
        low=interval.low if known else None,
        high=interval.high if known else None,
        n=n,
        confidence=interval.confidence,
    )


def _some(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def category_accuracy(
    category: str, questions: Sequence[Question], source: str, confidence: float = 0.95, seed: int = 0
) -> CategoryAccuracy:
    """Summary of some questions (all of one category, or all: "overall")."""
    n, groups = len(questions), [q.group for q in questions]
    chance = sum(q.chance for q in questions) / n
    dense = [q.dense.score for q in questions]
    answers = [q.slim for q in questions if q.slim is not None]
    slim = [answer.score for answer in answers]
    binary = stats.is_binary(dense, slim)
    base = CategoryAccuracy(
        category=category,
        n=n,
        groups=len(set(groups)),
        chance=chance,
        binary=binary,
        dense=_some(_figure(stats.share_interval(dense, groups, confidence), "share", source, n)),
        dense_unparsed=sum(q.dense.parse == "unparsed" for q in questions),
        dense_right=round(sum(dense)) if binary else None,
    )
    if len(answers) < n:
        return base
    change = [b - a for a, b in zip(dense, slim, strict=True)]

    def kept(chance_level: float) -> Figure | None:
        interval = stats.retention(dense, slim, chance_level, groups, confidence=confidence, seed=seed)
        return _figure(interval, "ratio", source, n)

    return msgspec.structs.replace(
        base,
        slim=_figure(stats.share_interval(slim, groups, confidence), "share", source, n),
        slim_unparsed=sum(answer.parse == "unparsed" for answer in answers),
        slim_right=round(sum(slim)) if binary else None,
        difference=_figure(stats.paired_difference(dense, slim, groups, confidence), "share", source, n),
        worse=sum(gap < 0 for gap in change),
        better=sum(gap > 0 for gap in change),
        p=stats.sign_flip_test(change, groups)[0],
        retention=kept(0.0),
        retention_corrected=kept(chance),
    )


def accuracy_section(
    dense: Sequence[Outcome],
    slim: Sequence[Outcome] | None = None,
    *,
    source: str,
    sample_source: str,
    task: str,
    confidence: float = 0.95,
    seed: int = 0,
) -> Accuracy:
    """The accuracy part from the outcomes of `evaluation.evaluate`; `slim` None for a dense deployment.

    `source` says what answered ("ONNX Runtime 1.32 CPU, fp32 plain graphs"), `sample_source` where the
    questions come from, `task` the name of what scored them. Categories keep the order in which they first
    occur.
    """
    if not dense:
        raise InputError(explain("samples", 0, "nothing was evaluated", "Give questions with answers"))
    seconds = [b for _, b in pair(dense, slim)] if slim is not None else [None] * len(dense)
    questions = tuple(
        Question(
            id=a.id,
            group=a.group,
            category=a.category,
            metric=a.metric,
            chance=a.chance,
            answer=a.answer,
            dense=Answer(text=a.text, score=a.score, parse=a.parse),
            slim=Answer(text=b.text, score=b.score, parse=b.parse) if b else None,
        )
        for a, b in zip(dense, seconds, strict=True)
    )
    names = list(dict.fromkeys(q.category for q in questions))
    overall = category_accuracy("overall", questions, source, confidence, seed)
    return Accuracy(
        source=source,
        sample_source=sample_source,
        sample_sha256=outcomes_sha256(dense),
        task=task,
        method=ACCURACY_METHOD if overall.binary else GRADED_METHOD,
        overall=overall,
        categories=tuple(
            category_accuracy(name, [q for q in questions if q.category == name], source, confidence, seed)
            for name in names
        ),
        questions=questions,
    )


def latency_section(
    dense_ms: Mapping[str, Sequence[float]],
    slim_ms: Mapping[str, Sequence[float]] | None = None,
    *,
    workload: Workload,
    where: str,
    runtime: str,
    variant: str,
    threads: int,
    warmup: int,
    order: Sequence[Which],
    is_target: bool,
    memory: Sequence[MemoryUse] = (),
    warnings: Sequence[str] = (),
    seed: int = 0,
) -> Latency:
    """The latency part from raw samples: phase name (of `document.PHASES`) -> ms, in the order taken.

    A dense and a slim sample at the same index belong to the same round. Raises ValueError on unknown phases.
    """
    unknown = sorted({*dense_ms, *(slim_ms or {})} - set(PHASES))
    if unknown:
        raise ValueError(f"unknown phases {unknown}; known are {PHASES}")
    phases = []
    for phase in PHASES:
        a, b = dense_ms.get(phase), (slim_ms or {}).get(phase)
        if not a:
            continue
        phases.append(
            PhaseTimes(
                phase=phase,
                dense=_some(_figure(timing_stats.median_interval(a, seed=seed), "ms", where, len(a))),
                dense_samples_ms=tuple(map(float, a)),
                slim=_figure(timing_stats.median_interval(b, seed=seed), "ms", where, len(b)) if b else None,
                slim_samples_ms=tuple(map(float, b or ())),
                ratio=_figure(timing_stats.ratio_interval(b, a, seed=seed), "ratio", where, len(a))
                if b and len(b) == len(a)
                else None,
            )
        )
    return Latency(
        where=where,
        runtime=runtime,
        variant=variant,
        threads=threads,
        workload=workload,
        warmup=warmup,
        order=tuple(order),
        is_target=is_target,
        phases=tuple(phases),
        memory=tuple(memory),
        method=LATENCY_METHOD,
        warnings=tuple(warnings),
    )
