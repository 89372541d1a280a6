"""A set of layers that was judged: scorers propose, output on held-out samples decides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from topovlm.choose.finals import Race, certainty, lots_of, race
from topovlm.choose.judged import Judged
from topovlm.choose.parting import filled
from topovlm.choose.record import Finalist, JudgeRecord
from topovlm.choose.search import Glance, KlJudge, search
from topovlm.console import Progress
from topovlm.samples import Sample

# Sets of layers -> what each shows, as it would ship, on the samples that the function was made of.
ShippedJudge = Callable[[Sequence[frozenset[int]]], Sequence[Judged]]
# A search needs a rough order, which so many samples give; a fifth, where there are many more.
_SEARCH_SAMPLES = 48
# Samples that say which sets are worth the others.
_GLANCED = 16


@dataclass(frozen=True)
class Finals:
    """`judge_of` makes the judge of a lot of samples; `repaired`: of sets nearly as they ship."""

    judge_of: Callable[[Sequence[Sample]], ShippedJudge]
    repaired: bool


def judge_proposals(
    judge_of: Callable[[Sequence[Sample]], KlJudge],
    layers: int,
    samples: Sequence[Sample],
    proposals: Mapping[str, Sequence[int]],
    protected: Collection[int],
    *,
    start: str,
    budget: int,
    finalists: int,
    finals: Callable[[Sequence[frozenset[int]]], Finals],
    seed: int = 0,
    patched: bool = False,
    shares_samples: bool = False,
    progress: Progress | None = None,
) -> JudgeRecord:
    """Swaps that bring a model nearer to the dense one's own answers, then a race of the best sets.

    `judge_of` makes the judge of the search: `judge.Judge`, or one in shards. `start` names the scorer whose
    proposal the search begins from, `budget` bounds the sets it tries; `finals` is asked for so many
    `finalists` when it is done. Noted are `patched`, whether the judge of the search repairs its sets, and
    `shares_samples`: its samples scored the layers too. Samples of a single picture are not parted: then no
    race is run.
    """
    searched, raced = parted(samples, seed)
    judge, glance = _judges(judge_of, searched)
    found = search(
        judge,
        proposals,
        layers,
        protected,
        start=start,
        budget=budget,
        best_sets=finalists,
        glance=glance,
        progress=progress,
    )
    record = JudgeRecord(
        dropped=found.dropped,
        search=found,
        samples=len(searched),
        finalists=(),
        certainty=None,
        patched=patched,
        shares_samples=shares_samples,
    )
    contenders = [frozenset(one.dropped) for one in found.best]
    return _raced(record, raced, contenders, finals(contenders), seed) if raced and contenders else record


@dataclass(frozen=True)
class _InParts:
    """The judge of all samples, where the first of them have one of their own. `share`: how many they are."""

    first: KlJudge
    rest: KlJudge
    share: float

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]:
        parts = zip(self.first.kls(drops), self.rest.kls(drops), strict=True)
        return [self.share * first + (1 - self.share) * rest for first, rest in parts]


def _judges(
    judge_of: Callable[[Sequence[Sample]], KlJudge], samples: Sequence[Sample]
) -> tuple[KlJudge, Glance | None]:
    """Of all samples, and of a part of them where there are enough."""
    few = max(_GLANCED, len(samples) // 4)
    if 2 * few > len(samples):
        return judge_of(samples), None
    share = few / len(samples)
    first = judge_of(samples[:few])
    return _InParts(first, judge_of(samples[few:]), share), Glance(first, share)


def parted(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples to search with, and those of the race; they share no picture: groups stay together."""
    return filled(samples, search_samples(len(samples)), [seed, 53])


def search_samples(count: int) -> int:
    """How many of so many samples a search has."""
    return max(min(_SEARCH_SAMPLES, count // 2), count // 5)


def _raced(
    record: JudgeRecord,
    samples: Sequence[Sample],
    contenders: Sequence[frozenset[int]],
    finals: Finals,
    seed: int,
) -> JudgeRecord:
    """With the winner of the race."""
    lots = lots_of(samples, len(contenders))
    judges: dict[int, ShippedJudge] = {}

    def ask(lot: int, running: Sequence[int]) -> Sequence[Judged]:
        if lot not in judges:
            judges[lot] = finals.judge_of(lots[lot])
        return judges[lot]([contenders[number] for number in running])

    run: Race = race(len(contenders), len(lots), ask)
    groups = [sample.cluster for lot in lots for sample in lot]
    return structs.replace(
        record,
        dropped=tuple(sorted(contenders[run.winner])),
        finalists=tuple(
            Finalist(
                dropped=tuple(sorted(drop)),
                repaired=finals.repaired,
                samples=judged.samples,
                kl=float(judged.kl.mean()),
                reverse=float(judged.reverse.mean()),
                same=float(judged.same.mean()),
            )
            for drop, judged in zip(contenders, run.results, strict=True)
        ),
        certainty=certainty(run, groups, seed),
    )
