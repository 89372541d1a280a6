"""The race of the best sets: on samples that no search has seen, and honest about how sure it is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from tests import tiny
from topovlm.choose.finals import Race, certainty, lots_of, race
from topovlm.choose.judged import Judged, joined


def judged(kl: ArrayLike, same: float = 1.0) -> Judged:
    values = np.asarray(kl, float)
    return Judged(values, values, np.full(len(values), same))


class Field:
    """Contenders with a mean each, noise from lot to lot, and a count of what they were asked."""

    def __init__(self, means: Sequence[float], lot_sizes: Sequence[int], noise: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shared = [rng.normal(0, 1, size) for size in lot_sizes]  # hard samples are hard for all
        self.values = [[mean + hard + rng.normal(0, noise, len(hard)) for mean in means] for hard in shared]
        self.asked: list[list[int]] = []

    def __call__(self, lot: int, running: Sequence[int]) -> list[Judged]:
        self.asked.append(list(running))
        return [judged(self.values[lot][number]) for number in running]


@given(means=st.lists(st.integers(0, 50), min_size=1, max_size=9, unique=True), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_without_noise_the_best_wins(means: list[int], seed: int) -> None:
    """Whatever hard samples there are: they are the same for all."""
    field = Field(means, [8, 8, 16], 0.0, seed)
    assert race(len(means), 3, field).winner == means.index(min(means))
    assert len(field.asked[0]) == len(means)
    assert all(len(later) <= max(2, -(-len(earlier) // 2)) for earlier, later in _pairs(field.asked))


def _pairs(rows: list[list[int]]) -> list[tuple[list[int], list[int]]]:
    return list(itertools.pairwise(rows))


def test_a_race_ends_when_one_is_clearly_ahead() -> None:
    """The last lots are not judged for nothing; close ones run on."""
    clear, close = Field([0.0, 9.0], [32, 32], 0.1, 0), Field([0.0, 0.001], [32, 32], 0.1, 0)
    race(2, 2, clear)
    race(2, 2, close)
    assert (len(clear.asked), len(close.asked)) == (1, 2)


def test_results_are_of_all_lots_that_were_run() -> None:
    """In their order, joined."""
    field = Field([0.0, 0.001, 3.0], [8, 8], 0.5, 1)
    run = race(3, 2, field)
    for number in field.asked[1]:
        both = joined([judged(field.values[lot][number]) for lot in (0, 1)])
        np.testing.assert_array_equal(run.results[number].kl, both.kl)
    assert run.results[2].samples == 8


@given(count=st.integers(2, 300), contenders=st.integers(1, 12), size=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_lots_part_all_samples_and_no_group(count: int, contenders: int, size: int) -> None:
    """Every sample once, each lot about as large as all before it, pictures whole."""
    eight = tiny.samples(8)
    samples = [replace(eight[i % 8], id=f"{i}", group=f"{i // size}") for i in range(count)]
    lots = lots_of(samples, contenders)
    assert sorted(sample.id for lot in lots for sample in lot) == sorted(sample.id for sample in samples)
    places = [{sample.group for sample in lot} for lot in lots]
    assert sum(map(len, places)) == len(set().union(*places))
    assert len(lots) <= max(1, (contenders - 1).bit_length())


def test_certainty_is_that_of_the_samples() -> None:
    """A clear winner is chosen again by all resamplings, one of two equals by about half of them."""
    rng = np.random.default_rng(0)
    groups = [str(number) for number in range(64)]
    hard = rng.normal(0, 1, 64)
    clear = Race((judged(hard), judged(hard + 1 + rng.normal(0, 0.1, 64))), winner=0)
    sure = certainty(clear, groups, 0)
    assert sure.chosen_again == sure.as_good == sure.resamplings
    noise = rng.normal(0, 1, 64)
    equal = Race((judged(hard), judged(hard + noise - noise.mean(), same=0.9)), winner=0)
    unsure = certainty(equal, groups, 0)
    assert 0.3 < unsure.chosen_again / unsure.resamplings < 0.7
    assert unsure.as_good == unsure.resamplings  # the other is no better where answers are counted
    worse = Race((judged(hard, same=0.9), judged(hard + noise - noise.mean())), winner=0)
    assert certainty(worse, groups, 0).as_good == unsure.chosen_again


def test_samples_of_a_group_are_drawn_together() -> None:
    """Eight copies of eight samples tell no more than the eight."""
    eight = np.array([2.0, -1.0, 1.5, -0.5, 1.0, -1.5, 0.5, -0.5])
    many = np.repeat(eight, 8)
    run = Race((judged(np.zeros(64)), judged(many)), winner=0)
    alone = certainty(run, [str(number) for number in range(64)], 0)
    together = certainty(run, [str(number // 8) for number in range(64)], 0)
    assert together.chosen_again < alone.chosen_again
