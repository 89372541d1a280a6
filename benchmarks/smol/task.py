"""The benchmark's questions as a task of topovlm."""

from __future__ import annotations

import functools

from benchmarks.smol.data import samples
from topovlm.evaluation.metrics import score_sample
from topovlm.evaluation.task import Scored
from topovlm.samples import Sample


class SmolTask:
    """Its test split is always the same one; `seed` draws the calibration split."""

    name = "smol"
    source = "the questions of SmolLM2-LVLM (benchmarks/smol)"
    licence = "Apache-2.0"

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        return list(_drawn(split, count, 0 if split == "test" else seed))

    def prompt(self, sample: Sample) -> str:
        return sample.prompt

    def score(self, sample: Sample, text: str) -> Scored:
        """By the question's own metric."""
        return score_sample(sample, text)


@functools.lru_cache(maxsize=4)
def _drawn(split: str, count: int, seed: int) -> tuple[Sample, ...]:
    return tuple(samples(split, count, seed))
