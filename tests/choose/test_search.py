"""The search: repairs proposals within its budget and never returns something worse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from topovlm.choose.search import Glance, search, split_samples
from topovlm.errors import InputError


class Additive:
    """A judge with a price per layer and a price for pairs; counts what it is asked."""

    def __init__(self, prices: list[float], pairs: dict[tuple[int, int], float] | None = None) -> None:
        self.prices, self.pairs, self.asked = prices, pairs or {}, 0

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]:
        return [self.kl(drop) for drop in drops]

    def kl(self, drop: Collection[int]) -> float:
        self.asked += 1
        both = sum(price for pair, price in self.pairs.items() if set(pair) <= set(drop))
        return sum(self.prices[layer] for layer in drop) + both


PRICES = st.lists(st.floats(0.01, 10), min_size=6, max_size=12)


@given(prices=PRICES, data=st.data())
@settings(deadline=None)
def test_additive_prices_are_solved_exactly(prices: list[float], data: st.DataObject) -> None:
    """Without interaction, swaps reach the cheapest set from any proposal."""
    count = data.draw(st.integers(1, 4))
    start = data.draw(st.permutations(range(len(prices))))[:count]
    result = search(Additive(prices), {"zigzag": start}, len(prices), budget=10_000)
    assert result.kl == pytest.approx(sum(sorted(prices)[:count]))
    assert len(result.dropped) == count


@given(prices=PRICES, data=st.data(), budget=st.integers(1, 30))
@settings(deadline=None)
def test_budget_and_protection_hold_and_nothing_gets_worse(
    prices: list[float], data: st.DataObject, budget: int
) -> None:
    """Never more judgements than allowed, never a protected layer, never worse than the proposal."""
    layers = len(prices)
    guarded = data.draw(st.sets(st.integers(0, layers - 1), max_size=3))
    free = [layer for layer in range(layers) if layer not in guarded]
    start = data.draw(st.permutations(free))[:2]
    judge = Additive(prices)
    result = search(judge, {"zigzag": start}, layers, guarded, budget=budget)
    assert judge.asked == result.evaluations <= budget
    assert not set(result.dropped) & guarded
    assert result.kl <= result.proposal_kl + 1e-12
    assert result.repaired == (result.dropped != result.proposal)


@given(prices=PRICES, noise=st.lists(st.floats(-1, 1), min_size=12, max_size=12), data=st.data())
@settings(deadline=None)
def test_glances_save_judgements_and_decide_nothing(
    prices: list[float], noise: list[float], data: st.DataObject
) -> None:
    """They cost their part of the budget; what wins was judged, and no set that was judged is better."""
    budget, cost = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([0.25, 1 / 3]))
    start = data.draw(st.permutations(range(len(prices))))[:2]
    judge = Additive(prices)
    rough = Additive([price + error for price, error in zip(prices, noise, strict=False)])
    result = search(judge, {"zigzag": start}, len(prices), budget=budget, glance=Glance(rough, cost))
    assert judge.asked == result.judged <= result.evaluations == rough.asked
    assert cost * rough.asked + (1 - cost) * judge.asked <= max(budget, 1) + 1e-6
    assert result.kl == sum(prices[layer] for layer in result.dropped)
    assert result.kl == result.best[0].kl <= result.proposal_kl


def test_a_true_glance_finds_what_judgements_find_for_less() -> None:
    """Of 8 layers of 30, as far down as the judge of everything, in less than half of the judgements."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        prices = rng.lognormal(size=30).tolist()
        pairs = {pair: float(rng.lognormal() / 4) for pair in combinations(range(30), 2)}
        start = rng.permutation(30)[:8].tolist()
        whole = search(Additive(prices, pairs), {"zigzag": start}, 30, budget=10_000)
        judge = Additive(prices, pairs)
        cheap = search(
            judge, {"zigzag": start}, 30, budget=10_000, glance=Glance(Additive(prices, pairs), 0.25)
        )
        assert (cheap.dropped, cheap.steps) == (whole.dropped, whole.steps)
        assert 0.25 * cheap.evaluations + 0.75 * cheap.judged < whole.judged / 2


def test_interaction_cliffs_are_seen() -> None:
    """Two cheap neighbours that are ruinous together are not both dropped."""
    judge = Additive([5, 1, 1.1, 1.2, 5], {(1, 2): 100})
    result = search(judge, {"zigzag": [1, 2]}, 5, budget=100)
    best = min(combinations(range(5), 2), key=judge.kl)
    assert result.dropped == best == (1, 3)
    assert result.repaired
    assert result.steps[-1].kl == result.kl


def test_the_best_proposal_is_the_first_start() -> None:
    """Whatever the budget leaves for others; all proposals are reported."""
    pairs = {pair: 50.0 for pair in combinations(range(6), 2) if pair not in ((0, 1), (4, 5))}
    judge = Additive([1.0, 1.0, 9, 9, 0.1, 0.1], pairs)
    for budget in (2, 100):
        result = search(judge, {"zigzag": [0, 1], "depth-prior": [4, 5]}, 6, budget=budget)
        assert result.dropped == (4, 5)
        assert (result.start, result.proposal, result.steps) == ("depth-prior", (4, 5), ())
        assert result.proposals["zigzag"].kl == 2.0


def test_the_proposal_that_was_asked_for_is_a_second_start() -> None:
    """From a local optimum it leads on, where the best one does not; else the next best does."""
    pairs = {pair: 50.0 for pair in combinations(range(6), 2) if pair not in ((0, 1), (3, 5), (4, 5))}
    judge = Additive([1.0, 1.0, 9, 2.5, 0.1, 0.1], pairs)
    proposals = {"zigzag": [0, 1], "depth-prior": [3, 5]}
    for start in proposals:
        result = search(judge, proposals, 6, start=start, budget=100)
        assert (result.dropped, result.start) == ((4, 5), "depth-prior")
        assert len(result.steps) == 1


@given(prices=PRICES, data=st.data(), wanted=st.integers(1, 9))
@settings(deadline=None)
def test_the_best_sets_are_told(prices: list[float], data: st.DataObject, wanted: int) -> None:
    """Of as many layers as were asked for, whole sets alone, best first, the search's own in front."""
    start = data.draw(st.permutations(range(len(prices))))[:2]
    judge = Additive(prices)
    result = search(judge, {"zigzag": start}, len(prices), budget=60, best_sets=wanted)
    assert result.best[0].kl == result.kl
    assert 1 <= len(result.best) <= wanted
    assert [one.kl for one in result.best] == sorted(one.kl for one in result.best)
    assert all(one.kl == judge.kl(one.dropped) and len(one.dropped) == 2 for one in result.best)


def test_progress_ends_at_its_total() -> None:
    """The callback counts judgements."""
    seen: list[tuple[int, int]] = []
    search(Additive([3, 2, 1]), {"zigzag": [0]}, 3, budget=20, progress=lambda *state: seen.append(state))
    assert seen[-1] == (20, 20)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_bad_proposals_are_refused() -> None:
    """Protected or absent layers, unequal sizes, an unknown start."""
    judge = Additive([1, 1, 1])
    for proposals, options, message in (
        ({"a": [0]}, {"protected": {0}}, "protected"),
        ({"a": [3]}, {}, "do not exist"),
        ({"a": [0], "b": [0, 1]}, {}, "same number"),
        ({"a": [0]}, {"start": "b"}, "not among"),
        ({}, {}, "not among"),
    ):
        with pytest.raises(InputError, match=message):
            search(judge, proposals, 3, **options)


def test_halves_share_no_picture() -> None:
    """Questions about one picture stay together; the split is balanced and repeatable."""
    samples = [replace(sample, group=f"picture-{i // 3}") for i, sample in enumerate(tiny.samples(30))]
    choose, confirm = split_samples(samples, seed=1)
    assert not {s.group for s in choose} & {s.group for s in confirm}
    assert len(choose) == len(confirm) == 15
    assert [s.id for s in split_samples(samples, seed=1)[0]] == [s.id for s in choose]
    assert [s.id for s in split_samples(samples, seed=2)[0]] != [s.id for s in choose]
