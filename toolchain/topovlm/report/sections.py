"""Raw results -> the accuracy and latency parts of the report, with every interval computed in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from topovlm.errors import InputError, explain
from topovlm.evaluation.evaluate import Outcome, outcomes_sha256, pair
from topovlm.report.document import (
    PHASES,
    Accuracy,
    Answer,
    FamilyAccuracy,
    Figure,
    Latency,
    MemoryUse,
    PhaseTimes,
    Question,
    Workload,
)
from topovlm.stats import paired as stats
from topovlm.stats import timing as timing_stats

ACCURACY_METHOD = (
    "Both models answer the same questions by greedy decoding through their exported graphs; an answer that "
    "cannot be parsed is wrong. Shares: Wilson interval; difference slim - dense: Newcombe's paired interval "
    "(method 10); both at the effective sample size of the picture clusters. p: exact McNemar test (sign "
    "flips of whole clusters). Retention: seeded paired bootstrap. Intervals at 95 %."
)
LATENCY_METHOD = (
    "Dense and slim timed in turns in one process after warm-up. Median with a seeded block-bootstrap "
    "interval; slim / dense is the median of the rounds' ratios. Intervals at 95 %, from six rounds on."
)


def _figure(
    interval: stats.Interval | None, unit: str, source: str, n: int, kind: Literal["measured"] = "measured"
) -> Figure | None:
    if interval is None:
        return None
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return Figure(
        value=interval.value,
        unit=unit,
        kind=kind,
        source=source,
        low=interval.low if known else None,
        high=interval.high if known else None,
        n=n,
        confidence=interval.confidence,
    )


def _some(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def family_accuracy(
    family: str, questions: Sequence[Question], source: str, confidence: float = 0.95, seed: int = 0
) -> FamilyAccuracy:
    """Summary of some questions (all of one family, or all: "overall")."""
    n, groups = len(questions), [q.group for q in questions]
    chance = sum(q.chance for q in questions) / n
    dense = [int(q.dense.correct) for q in questions]
    figure = _some(_figure(stats.share_interval(dense, groups, confidence), "share", source, n))
    base = FamilyAccuracy(
        family=family,
        n=n,
        groups=len(set(groups)),
        chance=chance,
        dense_correct=sum(dense),
        dense=figure,
        dense_unparsed=sum(not q.dense.parsed for q in questions),
    )
    answers = [q.slim for q in questions if q.slim is not None]
    if len(answers) < n:
        return base
    slim = [int(answer.correct) for answer in answers]
    change = [b - a for a, b in zip(dense, slim, strict=True)]

    def kept(chance_level: float) -> Figure | None:
        interval = stats.retention(dense, slim, chance_level, groups, confidence=confidence, seed=seed)
        return _figure(interval, "ratio", source, n)

    return FamilyAccuracy(
        family=family,
        n=n,
        groups=base.groups,
        chance=chance,
        dense_correct=base.dense_correct,
        dense=figure,
        dense_unparsed=base.dense_unparsed,
        slim_correct=sum(slim),
        slim=_figure(stats.share_interval(slim, groups, confidence), "share", source, n),
        slim_unparsed=sum(not answer.parsed for answer in answers),
        difference=_figure(stats.paired_difference(dense, slim, groups, confidence), "share", source, n),
        only_dense_correct=change.count(-1),
        only_slim_correct=change.count(1),
        mcnemar_p=stats.sign_flip_test(change, groups)[0],
        retention=kept(0.0),
        retention_corrected=kept(chance),
    )


def accuracy_section(
    dense: Sequence[Outcome],
    slim: Sequence[Outcome] | None = None,
    *,
    source: str,
    sample_source: str,
    confidence: float = 0.95,
    seed: int = 0,
) -> Accuracy:
    """The accuracy part from the outcomes of `evaluation.evaluate`; `slim` None for a dense deployment.

    `source` says what answered ("ONNX Runtime 1.32 CPU, fp32 plain graphs"), `sample_source` where the
    questions come from. Families keep the order in which they first occur.
    """
    if not dense:
        raise InputError(explain("samples", 0, "nothing was evaluated", "Give questions with answers"))
    seconds = [b for _, b in pair(dense, slim)] if slim is not None else [None] * len(dense)
    questions = tuple(
        Question(
            id=a.id,
            group=a.group,
            family=a.family,
            metric=a.metric,
            chance=a.chance,
            answer=a.answer,
            dense=Answer(text=a.text, correct=a.correct, parsed=a.parsed),
            slim=Answer(text=b.text, correct=b.correct, parsed=b.parsed) if b else None,
        )
        for a, b in zip(dense, seconds, strict=True)
    )
    names = list(dict.fromkeys(q.family for q in questions))
    return Accuracy(
        source=source,
        sample_source=sample_source,
        sample_sha256=outcomes_sha256(dense),
        method=ACCURACY_METHOD,
        overall=family_accuracy("overall", questions, source, confidence, seed),
        families=tuple(
            family_accuracy(name, [q for q in questions if q.family == name], source, confidence, seed)
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
    order: Sequence[str],
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
