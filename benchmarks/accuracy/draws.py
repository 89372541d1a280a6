"""Samples of a subject by what they are for: parts that score, judge and confirm share none."""

from __future__ import annotations

from benchmarks.accuracy.subject import Subject
from topovlm.samples import Sample

SAMPLES = 512  # that score and repair
JUDGING = 384  # of a judge of everything
CONFIRMING = 96  # that say whether a repair is kept, and healing


def judging_samples(subject: Subject, seed: int) -> list[Sample]:
    """Others than those that score and repair."""
    return subject.calibration(SAMPLES + JUDGING, seed)[SAMPLES:]
