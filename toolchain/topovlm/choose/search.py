"""From a proposal to a good set: scorers propose, the judge repairs by swapping one layer at a time.

Torch-free; a judge is anything with `kls(drops)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from topovlm.choose.record import Proposal, SearchResult, Step
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample, by_group


class KlJudge(Protocol):
    """What the search needs of a judge: several sets at once cost it little more than one."""

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]: ...


def split_samples(samples: Sequence[Sample], seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Two halves (choose, confirm) that share no picture: samples of one group stay together."""
    groups = by_group(samples)
    names = sorted(groups)
    order = np.random.default_rng([seed, 53]).permutation(len(names))
    halves: tuple[list[Sample], list[Sample]] = ([], [])
    for index in order:
        smaller = min(halves, key=len)
        smaller += groups[names[index]]
    return halves


class _Budget:
    """Counts judgements, remembers them, and reports progress."""

    def __init__(self, judge: KlJudge, limit: int, progress: Progress | None) -> None:
        self.judge, self.limit, self.progress = judge, limit, progress
        self.known: dict[frozenset[int], float] = {}

    @property
    def spent(self) -> bool:
        return len(self.known) >= self.limit

    def kls(self, drops: Iterable[frozenset[int]]) -> list[float | None]:
        """As many as the budget still pays for, in their order; None for the others."""
        keys = list(drops)
        room = max(0, self.limit - len(self.known))
        new = [key for key in dict.fromkeys(keys) if key not in self.known][:room]
        if new:
            self.known |= dict(zip(new, self.judge.kls(new), strict=True))
            if self.progress:
                self.progress(min(len(self.known), self.limit), self.limit)
        return [self.known.get(key) for key in keys]

    def best(self, layers: int, count: int) -> tuple[Proposal, ...]:
        """Of the sets of so many layers that are known."""
        whole = [_proposal(drop, kl) for drop, kl in self.known.items() if len(drop) == layers]
        return tuple(sorted(whole, key=lambda one: (one.kl, one.dropped))[:count])

    def kl(self, drop: frozenset[int]) -> float:
        """Also of a set beyond the budget, which nobody asks for but once."""
        if drop not in self.known:
            self.known[drop] = self.judge.kls([drop])[0]
        return self.known[drop]


def search(
    judge: KlJudge,
    proposals: Mapping[str, Sequence[int]],
    layers: int,
    protected: Collection[int] = (),
    *,
    start: str | None = None,
    budget: int = 200,
    best_sets: int = 8,
    progress: Progress | None = None,
) -> SearchResult:
    """Better the best of the proposals within `budget` judgements.

    All proposals must drop the same number of layers. Each round finds the dropped layer whose return helps
    most and the layer that is cheapest to drop in its place. When moves run out and budget is left, the
    proposal `start` (default: the first) is tried as a second start, or the next best where it was the first.
    Raises `InputError`.
    """
    sets = {name: frozenset(drop) for name, drop in proposals.items()}
    start = start if start is not None else next(iter(sets), "")
    free = frozenset(range(layers)) - frozenset(protected)
    _check(sets, start, free)
    bounded = _Budget(judge, max(budget, len(set(sets.values()))), progress)
    bounded.kls(sets.values())
    values = {name: bounded.kl(drop) for name, drop in sets.items()}
    ranked = sorted(sets, key=lambda name: (values[name], name != start, name))
    origin = ranked[0]
    best, steps = _descend(bounded, sets[origin], free)
    other = start if origin != start else next((n for n in ranked if sets[n] != sets[origin]), start)
    if sets[other] != sets[origin] and not bounded.spent:
        alternative, more = _descend(bounded, sets[other], free)
        if bounded.kl(alternative) < bounded.kl(best):
            best, steps, origin = alternative, more, other
    if progress:
        progress(bounded.limit, bounded.limit)
    return SearchResult(
        dropped=tuple(sorted(best)),
        kl=bounded.kl(best),
        proposal=tuple(sorted(sets[origin])),
        proposal_kl=values[origin],
        start=origin,
        repaired=best != sets[origin],
        steps=tuple(steps),
        proposals={name: _proposal(drop, values[name]) for name, drop in sets.items()},
        best=bounded.best(len(best), best_sets),
        evaluations=len(bounded.known),
        budget=budget,
    )


def _proposal(drop: frozenset[int], kl: float) -> Proposal:
    return Proposal(dropped=tuple(sorted(drop)), kl=kl)


def _check(sets: Mapping[str, frozenset[int]], start: str, free: frozenset[int]) -> None:
    if start not in sets:
        raise InputError(explain("proposal", start, f"is not among {', '.join(sets) or 'any'}"))
    sizes = {name: len(drop) for name, drop in sets.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(explain("proposals", sizes, "must all drop the same number of layers"))
    for name, drop in sets.items():
        if not drop <= free:
            rule = f"drops layers that do not exist or are protected: {sorted(drop - free)}"
            raise InputError(explain("proposal", name, rule))


def _descend(
    bounded: _Budget, start: frozenset[int], free: frozenset[int]
) -> tuple[frozenset[int], list[Step]]:
    """1-swap descent: stops at a set that no examined swap improves, or when the budget is spent."""
    current, steps = start, []
    value = bounded.kl(current)
    while not bounded.spent:
        move = _better_swap(bounded, current, value, free)
        if move is None:
            break
        out, into = move
        current = current - {out} | {into}
        value = bounded.kl(current)
        steps.append(Step(out=out, into=into, kl=value))
    return current, steps


def _better_swap(
    bounded: _Budget, current: frozenset[int], value: float, free: frozenset[int]
) -> tuple[int, int] | None:
    """The best replacement of the dropped layer that is missed most; then of the next; None if none helps."""
    layers = sorted(current)
    relief = dict(zip(layers, bounded.kls(current - {layer} for layer in layers), strict=True))
    helpful = {layer: found for layer, found in relief.items() if found is not None and found < value}
    if None in relief.values():
        return None  # the budget ended
    for out in sorted(helpful, key=lambda layer: (helpful[layer], layer)):
        others = sorted(free - current)
        asked = zip(others, bounded.kls(current - {out} | {into} for into in others), strict=True)
        candidates = {into: found for into, found in asked if found is not None}
        if candidates:
            into = min(candidates, key=lambda layer: (candidates[layer], layer))
            if candidates[into] < value:
                return out, into
    return None
