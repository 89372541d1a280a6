"""The user's own questions: one JSON object a line, each with the metric that scores it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from topovlm.errors import InputError, explain, located
from topovlm.evaluation.metrics import check_reference, score_sample
from topovlm.evaluation.task import Scored
from topovlm.samples import Sample, read_jsonl


class JsonlTask:
    """A `--data` file, as `topovlm.samples.read_jsonl` reads it. One set: whoever needs two divides it."""

    name = "jsonl"
    licence = ""

    def __init__(self, data: Path | None) -> None:
        if data is None:
            raise InputError(
                explain("--task", self.name, "needs a file of questions", "Give one with --data")
            )
        self._path = data

    @property
    def source(self) -> str:
        return self._path.name

    @cached_property
    def questions(self) -> list[Sample]:
        """All of the file, every picture and answer checked. Raises `InputError` naming the line."""
        samples = read_jsonl(self._path)
        for sample in samples:
            try:
                check_reference(sample.metric, sample.answer)
            except InputError as error:
                raise InputError(located(error, sample.source)) from None
        return samples

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        """The first `count` questions, in the order of the file."""
        if split != "test":
            raise InputError(explain("split", split, "a file of questions is one set", "Ask for test"))
        return self.questions[:count]

    def prompt(self, sample: Sample) -> str:
        return sample.prompt

    def score(self, sample: Sample, text: str) -> Scored:
        """By the sample's own metric."""
        return score_sample(sample, text)
