"""What a task is: questions, how they are put to a model, and how well an answer does, from 0 to 1.

A task holds data and pure functions; it asks no model. `evaluate` asks, `topovlm.tasks` lists the tasks there
are, docs/adding-a-task.md says how to add one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from topovlm.samples import Sample

ParseState = Literal["parsed", "unparsed"]


@dataclass(frozen=True)
class Scored:
    """How well one text answers: `score` 0..1, and whether an answer could be read from the text at all.

    An unparsed text scores 0; nothing is ever guessed for it. Raises ValueError for anything else.
    """

    score: float
    parse: ParseState = "parsed"

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"a score lies between 0 and 1, not at {self.score}")
        if self.parse == "unparsed" and self.score:
            raise ValueError("an unparsed text scores 0")


UNPARSED = Scored(0.0, "unparsed")


class Task(Protocol):
    """Questions with answers and the rule that scores them. Deterministic in all its arguments.

    A task may also have `answer_tokens` (the longest answer worth generating) and `fold` (outcomes of samples
    -> outcomes of questions, where a question is asked in several ways).
    """

    @property
    def name(self) -> str:
        """The name it is found by, e.g. `reference`."""
        ...

    @property
    def source(self) -> str:
        """Where the questions come from, in words that a report can print."""
        ...

    @property
    def licence(self) -> str:
        """The terms of the questions; empty where they are the user's own."""
        ...

    def samples(self, split: str, count: int, seed: int) -> Sequence[Sample]:
        """At most `count` questions of `calibration` (chooses layers) or `test` (measures). They share none.

        Raises `InputError` for a split that the task does not have.
        """
        ...

    def prompt(self, sample: Sample) -> str:
        """The text that the model is given beside the sample's pictures."""
        ...

    def score(self, sample: Sample, text: str) -> Scored:
        """How well `text` answers. Any text has a score. Raises `InputError` for a sample without answer."""
        ...


def answer_tokens(task: Task, usual: int) -> int:
    """Longest answer that is generated: the task's own `answer_tokens` where it says so."""
    return int(getattr(task, "answer_tokens", usual))


class OpenTask(Protocol):
    """What a registry of tasks holds: `--data` (None: not given) -> the task. Raises `InputError`."""

    def __call__(self, data: Path | None) -> Task: ...
