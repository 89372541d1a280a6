"""Tasks whose pictures are drawn on the spot, with their own metrics; the shipped benchmark is one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.evaluation.metrics import score_sample
from topovlm.evaluation.task import Scored
from topovlm.reference.data import TEST_SEED, samples
from topovlm.samples import Sample

# Split, number and seed -> samples.
Draw = Callable[[str, int, int], list[Sample]]


class DrawnTask:
    """Its test split is always the same one, of `test_seed`; `seed` draws the calibration split."""

    licence = "Apache-2.0"

    def __init__(self, name: str, source: str, draw: Draw, test_seed: int) -> None:
        self.name, self.source, self._draw, self._test_seed = name, source, draw, test_seed

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        return list(_drawn(self._draw, split, count, self._test_seed if split == "test" else seed))

    def prompt(self, sample: Sample) -> str:
        return sample.prompt

    def score(self, sample: Sample, text: str) -> Scored:
        """By the question's own metric."""
        return score_sample(sample, text)


class ReferenceTask(DrawnTask):
    """The reference benchmark."""

    def __init__(self, data: Path | None = None) -> None:
        if data is not None:
            raise InputError(explain("--data", str(data), "the reference task brings its own questions"))
        super().__init__("reference", "the shipped reference benchmark", samples, TEST_SEED)


@functools.lru_cache(maxsize=4)
def _drawn(draw: Draw, split: str, count: int, seed: int) -> tuple[Sample, ...]:
    """Drawing takes seconds, and several stages use the same samples."""
    return tuple(draw(split, count, seed))
