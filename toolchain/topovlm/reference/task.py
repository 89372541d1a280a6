"""The shipped benchmark as a task: pictures drawn on the spot, questions with their own metrics."""

from __future__ import annotations

import functools
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.evaluation.metrics import score_sample
from topovlm.evaluation.task import Scored
from topovlm.reference.data import TEST_SEED, samples
from topovlm.samples import Sample


class ReferenceTask:
    """The reference benchmark. Its test split is always the same one; `seed` draws the calibration split."""

    name = "reference"
    source = "the shipped reference benchmark"
    licence = "Apache-2.0"

    def __init__(self, data: Path | None = None) -> None:
        if data is not None:
            raise InputError(explain("--data", str(data), "the reference task brings its own questions"))

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        return list(_drawn(split, count, TEST_SEED if split == "test" else seed))

    def prompt(self, sample: Sample) -> str:
        return sample.prompt

    def score(self, sample: Sample, text: str) -> Scored:
        """By the question's own metric."""
        return score_sample(sample, text)


@functools.lru_cache(maxsize=4)
def _drawn(split: str, count: int, seed: int) -> tuple[Sample, ...]:
    """Drawing takes seconds, and several stages use the same samples."""
    return tuple(samples(split, count, seed))
