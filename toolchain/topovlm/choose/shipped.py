"""Sets of layers as they would ship: the decoder without them, repaired where repairs are made."""

from __future__ import annotations

from collections.abc import Sequence

from topovlm.checkpoint.live import Live
from topovlm.choose.judge import Judge
from topovlm.choose.judged import Judged
from topovlm.choose.judging import ShippedJudge
from topovlm.choose.repair.fit import Repairs
from topovlm.choose.sweep import Variant
from topovlm.samples import Sample


class Shipped:
    """Judges of sets on any samples. `repairs`: what fits them; None where none ships."""

    def __init__(self, live: Live, repairs: Repairs | None) -> None:
        self._live, self._repairs = live, repairs
        self._known: dict[frozenset[int], Variant] = {}

    def judge_of(self, samples: Sequence[Sample]) -> ShippedJudge:
        judge = Judge(self._live, samples)

        def judged(drops: Sequence[frozenset[int]]) -> list[Judged]:
            return judge.judged(self._variants(drops))

        return judged

    def _variants(self, drops: Sequence[frozenset[int]]) -> list[Variant]:
        """What is not known yet is repaired side by side."""
        new = [drop for drop in dict.fromkeys(drops) if drop not in self._known]
        if self._repairs and new:
            repaired = [found[0].weights for found in self._repairs.of([sorted(drop) for drop in new])]
        else:
            repaired = [{} for _ in new]
        self._known |= {drop: Variant(drop, weights) for drop, weights in zip(new, repaired, strict=True)}
        return [self._known[drop] for drop in drops]
