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
            return judge.judged([self._variant(drop) for drop in drops])

        return judged

    def _variant(self, drop: frozenset[int]) -> Variant:
        if drop not in self._known:
            weights = self._repairs.of(sorted(drop))[0] if self._repairs else {}
            self._known[drop] = Variant(drop, weights)
        return self._known[drop]
