"""The last choice: the best sets of the search, as they would ship, on samples that no search has seen.

A race: all contenders run on a first lot of samples, the better half on the next, until two are left or one
is clearly ahead. What the search has found looks better on its own samples than it is, so these do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from topovlm.choose.judged import Judged, joined
from topovlm.choose.record import Certainty
from topovlm.samples import Sample, by_group

# Standard errors of a paired difference beyond which a contender need not run on.
_CLEARLY_BEHIND = 3.0
_LEAST_OF_A_LOT = 8
_RESAMPLINGS = 200
# "As good": so many points of answer tokens chosen as the dense model does.
_AS_GOOD_POINTS = 0.5

# The numbers of a lot and of contenders -> what each of these shows on that lot.
Ask = Callable[[int, Sequence[int]], Sequence[Judged]]


@dataclass(frozen=True)
class Race:
    """`results` of every contender on the lots that it ran, in their order; `winner`: its number."""

    results: tuple[Judged, ...]
    winner: int


def lots_of(samples: Sequence[Sample], contenders: int) -> list[list[Sample]]:
    """Samples as a race wants them: each lot as large as all before, so that all rounds cost alike. Samples
    of one group share a lot."""
    rounds = max(1, min((contenders - 1).bit_length(), (len(samples) // _LEAST_OF_A_LOT).bit_length()))
    sizes = [len(samples) / 2 ** (rounds - 1)]
    sizes += [sizes[0] * 2**number for number in range(rounds - 1)]
    lots: list[list[Sample]] = [[] for _ in sizes]
    place = 0
    for group in by_group(samples).values():
        if len(lots[place]) >= sizes[place] and place + 1 < len(lots):
            place += 1
        lots[place] += group
    return [lot for lot in lots if lot]


def race(contenders: int, lots: int, ask: Ask) -> Race:
    """Run it. Whoever is least apart in the mean wins, of those that are left; the first of equals."""
    running = list(range(contenders))
    found: list[list[Judged]] = [[] for _ in running]
    for lot in range(lots):
        for number, judged in zip(running, ask(lot, running), strict=True):
            found[number].append(judged)
        running.sort(key=lambda number: (float(joined(found[number]).apart.mean()), number))
        if lot + 1 < lots:
            leader = joined(found[running[0]])
            half = running[: max(2, -(-len(running) // 2))]
            running = [n for n in half if n == running[0] or not _behind(joined(found[n]), leader)]
            if len(running) == 1:
                break
    return Race(tuple(joined(parts) for parts in found), running[0])


def _behind(one: Judged, leader: Judged) -> bool:
    difference = one.apart - leader.apart
    if len(difference) < 2:
        return False
    error = float(difference.std(ddof=1)) / len(difference) ** 0.5
    return bool(difference.mean() > _CLEARLY_BEHIND * error)


def certainty(run: Race, groups: Sequence[str], seed: int) -> Certainty:
    """How often other samples of the kind would have chosen the winner, or a set as good.

    The race's samples are drawn again, by `groups` (of every sample of all lots); each contender stands
    against the winner on what both ran.
    """
    rng, winner = np.random.default_rng([seed, 67]), run.results[run.winner]
    again = as_good = 0
    for _ in range(_RESAMPLINGS):
        weights = _drawn_again(groups, rng)
        best, lead, points = run.winner, 0.0, 0.0
        for number, other in enumerate(run.results):
            both = min(other.samples, winner.samples)
            drawn = weights[:both]
            if number == run.winner or not drawn.sum():
                continue
            ahead = float(np.average(winner.apart[:both] - other.apart[:both], weights=drawn))
            if ahead > lead:
                best, lead = number, ahead
                points = 100 * float(np.average(other.same[:both] - winner.same[:both], weights=drawn))
        again += best == run.winner
        as_good += points <= _AS_GOOD_POINTS
    return Certainty(
        resamplings=_RESAMPLINGS, chosen_again=again, as_good=as_good, as_good_points=_AS_GOOD_POINTS
    )


def _drawn_again(groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """How often each sample is drawn, [samples]: whole groups, with replacement."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
    counts: np.ndarray = drawn[index]
    return counts
