"""From a proposal to a good set: scorers propose, the judge repairs by swapping one layer at a time.

Half of the samples choose, the other half confirms. Torch-free; a judge is anything with `kl(drop)`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from topovlm.choose.record import Proposal, SearchResult, Step
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample


class KlJudge(Protocol):
    """What the search needs of a judge."""

    def kl(self, drop: Collection[int]) -> float: ...


def split_samples(samples: Sequence[Sample], seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Two halves (choose, confirm) that share no picture: samples of one group stay together."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group or sample.id, []).append(sample)
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

    def kl(self, drop: Collection[int]) -> float:
        key = frozenset(drop)
        if key not in self.known:
            self.known[key] = self.judge.kl(key)
            if self.progress:
                self.progress(min(len(self.known), self.limit), self.limit)
        return self.known[key]


def search(
    judge: KlJudge,
    proposals: Mapping[str, Sequence[int]],
    layers: int,
    protected: Collection[int] = (),
    *,
    start: str | None = None,
    budget: int = 200,
    confirm: KlJudge | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Repair the proposal `start` (default: the first) within `budget` judgements.

    All proposals must drop the same number of layers. Each round finds the dropped layer whose return helps
    most and the layer that is cheapest to drop in its place. When moves run out and budget is left, the best
    of the other proposals is tried as a second start. `confirm` (a judge on other samples) must not find the
    final set worse than the proposal `start`, else that proposal stands. Raises `InputError`.
    """
    sets = {name: frozenset(drop) for name, drop in proposals.items()}
    start = start if start is not None else next(iter(sets), "")
    free = frozenset(range(layers)) - frozenset(protected)
    _check(sets, start, free)
    bounded = _Budget(judge, max(budget, len(set(sets.values()))), progress)
    values = {name: bounded.kl(drop) for name, drop in sets.items()}
    best, steps = _descend(bounded, sets[start], free)
    origin = start
    other = min(sets, key=lambda name: (values[name], name))
    if other != start and not bounded.spent:
        alternative, more = _descend(bounded, sets[other], free)
        if bounded.kl(alternative) < bounded.kl(best):
            best, steps, origin = alternative, more, other
    confirmed, confirmed_values = None, dict[str, float]()
    if confirm:
        seen = {drop: confirm.kl(drop) for drop in {best, *sets.values()}}
        confirmed_values = {name: seen[drop] for name, drop in sets.items()}
        if seen[best] > confirmed_values[start]:
            best, steps, origin = sets[start], [], start
        confirmed = seen[best]
    if progress:
        progress(bounded.limit, bounded.limit)
    return SearchResult(
        dropped=tuple(sorted(best)),
        kl=bounded.kl(best),
        proposal=tuple(sorted(sets[origin])),
        proposal_kl=values[origin],
        start=origin,
        repaired=best != sets[origin],
        confirm_kl=confirmed,
        confirm_proposal_kl=confirmed_values.get(origin),
        steps=tuple(steps),
        proposals={
            name: Proposal(
                dropped=tuple(sorted(drop)), kl=values[name], confirm_kl=confirmed_values.get(name)
            )
            for name, drop in sets.items()
        },
        evaluations=len(bounded.known),
        budget=budget,
    )


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
    relief = {}
    for layer in sorted(current):
        if bounded.spent:
            return None
        relief[layer] = bounded.kl(current - {layer})
    for out in sorted(relief, key=lambda layer: (relief[layer], layer)):
        if relief[out] >= value:
            continue  # even a free return does not help
        candidates = {}
        for into in sorted(free - current):
            if bounded.spent:
                break
            candidates[into] = bounded.kl(current - {out} | {into})
        if candidates:
            into = min(candidates, key=lambda layer: (candidates[layer], layer))
            if candidates[into] < value:
                return out, into
    return None
