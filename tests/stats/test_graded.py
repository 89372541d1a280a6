"""Intervals and tests of graded scores, against scipy, enumeration and simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from topovlm.stats import paired
from topovlm.stats.graded import t_quantile


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [5, 8, 20, 500])
def test_the_t_quantile_is_scipys(confidence: float, freedom: int) -> None:
    """To one per cent from five degrees of freedom on, as few clusters as an interval makes sense for."""
    expected = scipy_stats.t.ppf(0.5 + confidence / 2, freedom)
    assert t_quantile(confidence, freedom) == pytest.approx(expected, rel=0.01)


def test_right_or_wrong_keeps_its_own_methods() -> None:
    """One graded score among them changes the method, none does not."""
    right = np.array([1, 1, 0, 1, 0, 1, 1, 1])
    assert paired.is_binary(right, [0.0, 1.0])
    assert not paired.is_binary(right, [0.5])
    wilson = paired.wilson_interval(float(right.sum()), len(right))
    assert paired.share_interval(right) == wilson
    assert paired.share_interval(np.where(right == 0, 1e-9, right)) != wilson


def simulated(
    rng: np.random.Generator, groups: int, cluster: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Scores of two models, 0.03 apart on average; questions of one picture resemble each other."""
    ease = np.repeat(rng.normal(0, 0.15, groups), cluster)
    dense = np.clip(0.7 + ease + rng.normal(0, 0.1, groups * cluster), 0, 1)
    lost = np.repeat(rng.exponential(0.03, groups), cluster)
    return dense, dense - np.minimum(lost, dense), np.repeat(np.arange(groups), cluster).tolist()


@pytest.mark.parametrize("cluster", [1, 4])
def test_graded_intervals_cover_the_truth(cluster: int) -> None:
    """Simulated coverage of a mean and of a paired difference is near 95 %, clusters or not."""
    rng = np.random.default_rng(5)
    large = simulated(rng, 100_000, 1)
    truths = float(large[0].mean()), float((large[1] - large[0]).mean())
    covered = np.zeros(2)
    runs = 300
    for _ in range(runs):
        dense, slim, names = simulated(rng, 40, cluster)
        share, gap = paired.share_interval(dense, names), paired.paired_difference(dense, slim, names)
        covered += [share.low <= truths[0] <= share.high, gap.low <= truths[1] <= gap.high]
    assert np.all(covered / runs >= 0.92)
    assert covered[0] / runs <= 0.99  # the difference is skewed and small: its half pairs make it wider


def test_no_difference_seen_is_no_difference_proven() -> None:
    """Equal scores leave an interval around zero that more questions narrow."""
    few, many = (paired.paired_difference([0.5] * n, [0.5] * n) for n in (20, 200))
    assert few.value == many.value == 0
    assert few.low < many.low < 0 < many.high < few.high
    share = paired.share_interval([0.5] * 20)
    assert share.low < 0.5 < share.high


def test_intervals_stay_within_what_scores_can_be() -> None:
    """Nearly perfect scores do not promise more than 1, nor differences beyond -1."""
    share = paired.share_interval([0.999] * 5)
    assert share.low < share.value <= share.high <= 1
    gap = paired.paired_difference([0.999] * 4, [0.001] * 4)
    assert -1 <= gap.low <= gap.value < gap.high


def test_sign_flips_of_graded_scores_agree_with_enumeration() -> None:
    """Every assignment of signs to the clusters' net differences, counted by hand."""
    differences, groups = [-0.2, -0.11, 0.05, -0.3, 0.0, -0.4], ["a", "a", "b", "c", "c", "d"]
    nets = [-31, 5, -30, -40]
    totals = [sum(s * n for s, n in zip(signs, nets, strict=True)) for signs in product((1, -1), repeat=4)]
    two_sided, worse = paired.sign_flip_test(differences, groups)
    assert two_sided == pytest.approx(np.mean([abs(t) >= 96 for t in totals]))
    assert worse == pytest.approx(np.mean([t <= -96 for t in totals]))


def test_retention_of_graded_scores() -> None:
    """Half the score is kept, with an interval around it."""
    dense = np.linspace(0.4, 0.9, 60)
    kept = paired.retention(dense, dense / 2)
    assert kept is not None
    assert kept.value == pytest.approx(0.5)
    assert kept.low < 0.5 < kept.high
