"""Dense against slim on the same held-out questions: raw outcomes and their summaries."""

from __future__ import annotations

from typing import Annotated

import msgspec

from topovlm.evaluation.task import ParseState
from topovlm.records import Strict
from topovlm.report.document.figures import Count, Figure, Score

Chance = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Answer(Strict, frozen=True, kw_only=True):
    """One model's answer to one question. `score` lies in 0..1; what could not be parsed scores 0."""

    text: str
    score: Score
    parse: ParseState

    def __post_init__(self) -> None:
        if self.parse == "unparsed" and self.score:
            raise ValueError("an unparsed answer scores 0")


class Question(Strict, frozen=True, kw_only=True):
    """Raw paired outcome. `group` is the cluster (same picture), `chance` the score of a guess."""

    id: str
    group: str
    category: str
    metric: str
    chance: Chance
    answer: str
    dense: Answer
    slim: Answer | None = None


class CategoryAccuracy(Strict, frozen=True, kw_only=True):
    """Summary of one category of questions ("overall" for all): mean scores as shares.

    `binary`: every score is 0 or 1, so that shares are shares of right answers, and `dense_right` and
    `slim_right` count them. `difference` = slim - dense, paired. `worse` and `better` count the questions
    that the slim model scores lower or higher on; `p` is of an exact test that the models are alike.
    """

    category: str
    n: Count
    groups: Count
    chance: Chance
    binary: bool
    dense: Figure
    dense_unparsed: Count
    dense_right: Count | None = None
    slim: Figure | None = None
    slim_unparsed: Count | None = None
    slim_right: Count | None = None
    difference: Figure | None = None
    worse: Count | None = None
    better: Count | None = None
    p: Score | None = None
    retention: Figure | None = None  # slim / dense
    retention_corrected: Figure | None = None  # (slim - chance) / (dense - chance)


class Accuracy(Strict, frozen=True, kw_only=True):
    """Dense against slim on the same held-out questions, through the exported graphs."""

    source: str  # what answered, e.g. "ONNX Runtime 1.32 CPU, fp32, plain graphs"
    sample_source: str
    sample_sha256: str
    task: str  # the name that the questions and their scoring are found by, e.g. "reference"
    method: str
    overall: CategoryAccuracy
    categories: tuple[CategoryAccuracy, ...]
    questions: Annotated[tuple[Question, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        if len({question.id for question in self.questions}) < len(self.questions):
            raise ValueError("two questions have the same id")
        if len({summary.category for summary in self.categories}) < len(self.categories):
            raise ValueError("a category is there twice")
        if len({question.slim is None for question in self.questions}) > 1:
            raise ValueError("the slim model answered some of the questions only")
