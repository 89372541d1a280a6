"""Ask an engine every question of a task and score its answers.

The engine is whatever `topovlm.runtime` opened: the exported graphs, so that what is scored is what ships.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from topovlm.errors import InputError, explain, located
from topovlm.evaluation.task import ParseState, Task
from topovlm.json_text import half_character
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.runtime.prompt import Visual

_CHUNK = 512  # questions whose pictures are in memory at a time


class Generated(Protocol):
    """What an engine gives back for one question."""

    @property
    def text(self) -> str: ...


class Asks(Protocol):
    """The part of `topovlm.runtime.Prompter` that says whether a model can be asked something."""

    def check(self, visuals: Sequence[Visual], words: str, new_tokens: int) -> None: ...


class AnsweringEngine(Protocol):
    """The part of `topovlm.runtime.Engine` that evaluation needs: greedy answers, in order."""

    def generate_batch(
        self, items: Sequence[tuple[Sequence[Visual], str]], batch_size: int, max_new_tokens: int
    ) -> Sequence[Generated]: ...


@dataclass(frozen=True)
class Outcome:
    """One question answered by one model. `group` is the cluster: what shares a picture. `score` is 0..1."""

    id: str
    group: str
    category: str
    metric: str
    chance: float
    answer: str
    text: str
    score: float
    parse: ParseState


def score_text(task: Task, sample: Sample, text: str) -> Outcome:
    """Score one generated text. Raises `InputError` when the sample has no answer or cannot be scored."""
    if sample.answer is None:
        raise InputError(explain("answer", sample.id, "the sample has no answer to compare with"))
    scored = task.score(sample, text)
    return Outcome(
        id=sample.id,
        group=sample.cluster,
        category=sample.category,
        metric=sample.metric,
        chance=sample.chance,
        answer=sample.answer,
        text=text.strip(),
        score=scored.score,
        parse=scored.parse,
    )


def folded(task: Task, outcomes: list[Outcome]) -> list[Outcome]:
    """Outcomes of questions, where the task asks one in several ways; otherwise as they are."""
    fold: Callable[[list[Outcome]], list[Outcome]] | None = getattr(task, "fold", None)
    return outcomes if fold is None else fold(outcomes)


def check_text(sample: Sample) -> None:
    """Raises `InputError` naming the field that holds half of a surrogate pair: no file could hold it."""
    for field in ("id", "prompt", "answer", "category", "group"):
        text = getattr(sample, field)
        half = half_character(text) if isinstance(text, str) else None
        if half:
            rule = f"holds half of a surrogate pair ({half}), which is no character"
            raise InputError(explain(field, text, rule, "Cut texts between characters"))


def check_samples(task: Task, samples: Sequence[Sample]) -> None:
    """Refuse, before any model runs, what could not be scored. Raises `InputError` naming the sample."""
    if not samples:
        rule, remedy = "there is nothing to evaluate on", "Give at least one question with an answer"
        raise InputError(explain("samples", 0, rule, remedy))
    seen: set[str] = set()
    for sample in samples:
        try:
            check_text(sample)
            score_text(task, sample, "")
        except InputError as error:
            raise InputError(located(error, sample.source or f"sample {sample.id}")) from None
        if sample.id in seen:
            raise InputError(explain("id", sample.id, "occurs twice"))
        seen.add(sample.id)


def check_prompts(asks: Asks, task: Task, samples: Sequence[Sample], new_tokens: int) -> None:
    """Refuse, before any model runs, what one cannot be asked. Raises `InputError` naming the sample."""
    for sample in samples:
        try:
            asks.check((*sample.images, *sample.videos), task.prompt(sample), new_tokens)
        except InputError as error:
            raise InputError(located(error, sample.source or f"sample {sample.id}")) from None


def evaluate(
    engine: AnsweringEngine,
    task: Task,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int = 32,
    batch_size: int = 16,
    chunk: int = _CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """One outcome per sample, in order, or what the task folds them to; `progress(done, total)` by chunk."""
    check_samples(task, samples)
    outcomes: list[Outcome] = []
    for start in range(0, len(samples), chunk):
        part = samples[start : start + chunk]
        items = [(sample.visuals(), task.prompt(sample)) for sample in part]
        generations = engine.generate_batch(items, batch_size, max_new_tokens)
        outcomes += [score_text(task, sample, g.text) for sample, g in zip(part, generations, strict=True)]
        if progress:
            progress(len(outcomes), len(samples))
    return folded(task, outcomes)


def pair(dense: Sequence[Outcome], slim: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Outcomes of two models on the same questions, in the order of the first.

    Raises ValueError when the questions differ: a difference of unlike questions would mean nothing.
    """
    others = {outcome.id: outcome for outcome in slim}
    if (
        len(others) != len(slim)
        or {outcome.id for outcome in dense} != set(others)
        or len(dense) != len(slim)
    ):
        raise ValueError("the two models did not answer the same questions once each")
    return [(outcome, others[outcome.id]) for outcome in dense]


def outcomes_sha256(outcomes: Sequence[Outcome]) -> str:
    """Identity of the question set (ids, categories, metrics, answers, groups; not what was answered)."""
    asked = sorted([o.id, o.category, o.metric, o.answer, o.group, repr(o.chance)] for o in outcomes)
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()
