"""From a proposal to a good set: scorers propose, the judge repairs by swapping one layer at a time.

Torch-free; a judge is anything with `kls(drops)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from topovlm.choose.record import Proposal, SearchResult, Step
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample, by_group

# Of the sets that a glance likes best so many are judged.
_WORTH_IT = 4
_ROUNDING = 1e-9


class KlJudge(Protocol):
    """What the search needs of a judge: several sets at once cost it little more than one."""

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]: ...


@dataclass(frozen=True)
class Glance:
    """A judge of a part of the samples: it says which sets are worth a judgement on all. `cost`: what it
    takes of one, which is spared there."""

    judge: KlJudge
    cost: float


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

    def __init__(self, judge: KlJudge, limit: int, glance: Glance | None, progress: Progress | None) -> None:
        self._judge, self._glance, self.limit, self._progress = judge, glance, limit, progress
        self._cheapest = glance.cost if glance else 1.0
        self._spent = 0.0
        self.seen: dict[frozenset[int], float] = {}
        self.known: dict[frozenset[int], float] = {}

    @property
    def spent(self) -> bool:
        return self._left < self._cheapest

    @property
    def looked_at(self) -> int:
        """Sets of which anything is known."""
        return len(self.seen.keys() | self.known.keys())

    def glances(self, drops: Iterable[frozenset[int]]) -> list[float | None]:
        """As many as the budget still pays for, in their order; None for the others."""
        if self._glance is None:
            return self.kls(drops)
        keys = list(drops)
        new = [key for key in dict.fromkeys(keys) if key not in self.seen]
        self._look(new[: int(self._left / self._glance.cost)])
        return [self.seen.get(key) for key in keys]

    def kls(self, drops: Iterable[frozenset[int]]) -> list[float | None]:
        """As `glances`, on all samples."""
        keys, new, left = list(drops), [], self._left
        for key in dict.fromkeys(keys):
            if key not in self.known and (left := left - self._price(key)) >= 0:
                new.append(key)
        self._know(new)
        return [self.known.get(key) for key in keys]

    def kl(self, drop: frozenset[int]) -> float:
        """Also of a set beyond the budget, which nobody asks for but once."""
        if drop not in self.known:
            self._know([drop])
        return self.known[drop]

    def best(self, layers: int, count: int) -> tuple[Proposal, ...]:
        """Of the sets of so many layers that are known."""
        whole = [_proposal(drop, kl) for drop, kl in self.known.items() if len(drop) == layers]
        return tuple(sorted(whole, key=lambda one: (one.kl, one.dropped))[:count])

    @property
    def _left(self) -> float:
        return self.limit - self._spent + _ROUNDING

    def _price(self, drop: frozenset[int]) -> float:
        return 1 - self._cheapest if drop in self.seen else 1.0

    def _look(self, drops: Sequence[frozenset[int]]) -> None:
        if self._glance and drops:
            self.seen |= dict(zip(drops, self._glance.judge.kls(drops), strict=True))
            self._pay(len(drops) * self._glance.cost)

    def _know(self, drops: Sequence[frozenset[int]]) -> None:
        self._look([drop for drop in drops if drop not in self.seen])
        if drops:
            self.known |= dict(zip(drops, self._judge.kls(drops), strict=True))
            self._pay(sum(map(self._price, drops)))

    def _pay(self, judgements: float) -> None:
        self._spent += judgements
        if self._progress:
            self._progress(min(int(self._spent + _ROUNDING), self.limit), self.limit)


def search(
    judge: KlJudge,
    proposals: Mapping[str, Sequence[int]],
    layers: int,
    protected: Collection[int] = (),
    *,
    start: str | None = None,
    budget: int = 200,
    best_sets: int = 8,
    glance: Glance | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Better the best of the proposals within `budget` judgements; glances count as their part of one.

    All proposals must drop the same number of layers. Each round goes through the dropped layers, from the
    one whose return helps most, and finds the layer that is cheapest to drop in its place, by a `glance`
    where there is one; the few best are judged. When moves run out and budget is left, the proposal `start`
    (default: the first) is tried as a second start, or the next best where it was the first. Raises
    `InputError`.
    """
    sets = {name: frozenset(drop) for name, drop in proposals.items()}
    start = start if start is not None else next(iter(sets), "")
    free = frozenset(range(layers)) - frozenset(protected)
    _check(sets, start, free)
    bounded = _Budget(judge, max(budget, len(set(sets.values()))), glance, progress)
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
        evaluations=bounded.looked_at,
        judged=len(bounded.known),
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
    current, steps, before = start, list[Step](), -1
    while len(steps) > before and not bounded.spent:
        before = len(steps)
        # An exchange hardly changes which of the others are missed: looked at again when all had their turn.
        for out in _missed(bounded, current):
            into = _replacement(bounded, current, out, free)
            if into is not None:
                current = current - {out} | {into}
                steps.append(Step(out=out, into=into, kl=bounded.kl(current)))
    return current, steps


def _missed(bounded: _Budget, current: frozenset[int]) -> list[int]:
    """The dropped layers whose return helps, the one that helps most first; none where the budget ends."""
    layers = sorted(current)
    seen, *relief = bounded.glances([current, *(current - {layer} for layer in layers)])
    if seen is None or None in relief:
        return []
    found = zip(layers, relief, strict=True)
    return [
        layer
        for here, layer in sorted((here, layer) for layer, here in found if here is not None and here < seen)
    ]


def _replacement(bounded: _Budget, current: frozenset[int], out: int, free: frozenset[int]) -> int | None:
    """The layer to drop in its place that leaves the best of the sets; None where none is better."""
    others = {into: current - {out} | {into} for into in sorted(free - current)}
    seen_of = zip(others, bounded.glances(others.values()), strict=True)
    likely = sorted((here, into) for into, here in seen_of if here is not None)[:_WORTH_IT]
    judged = bounded.kls(others[into] for _, into in likely)
    better = [(kl, into) for (_, into), kl in zip(likely, judged, strict=True) if kl is not None]
    return min(better)[1] if better and min(better)[0] < bounded.kl(current) else None
