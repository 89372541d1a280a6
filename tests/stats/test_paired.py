"""Paired statistics against scipy, published examples, brute force and simulation."""

from __future__ import annotations

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from topovlm.stats import paired as stats


def cells(both: int, only_dense: int, only_slim: int, neither: int) -> tuple[list[int], list[int]]:
    """Two outcome lists with the given 2 x 2 table."""
    dense = [1] * (both + only_dense) + [0] * (only_slim + neither)
    slim = [1] * both + [0] * only_dense + [1] * only_slim + [0] * neither
    return dense, slim


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_flips_of_single_questions_are_mcnemar(only_dense: int, only_slim: int) -> None:
    """Without clusters the sign-flip test is McNemar's exact test, its one-sided p the binomial tail."""
    differences = [-1] * only_dense + [1] * only_slim + [0] * 3
    two_sided, worse = stats.sign_flip_test(differences)
    n = only_dense + only_slim
    assert two_sided == pytest.approx(scipy_stats.binomtest(only_dense, n).pvalue if n else 1.0)
    tail = scipy_stats.binomtest(only_slim, n, 0.5, alternative="less").pvalue if n else 1.0
    assert worse == pytest.approx(tail)


def test_sign_flips_of_clusters_agree_with_enumeration() -> None:
    """Every assignment of signs to the clusters' net differences, counted by hand."""
    differences = [-1, -1, 1, -1, 0, -1, -1, 1, -1]
    groups = ["a", "a", "b", "c", "c", "d", "d", "d", "e"]
    nets = [-2, 1, -1, -1, -1]
    totals = [sum(s * n for s, n in zip(signs, nets, strict=True)) for signs in product((1, -1), repeat=5)]
    two_sided, worse = stats.sign_flip_test(differences, groups)
    assert two_sided == pytest.approx(np.mean([abs(t) >= 4 for t in totals]))
    assert worse == pytest.approx(np.mean([t <= -4 for t in totals]))


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_agrees_with_scipy(correct: int, n: int) -> None:
    """The share's score interval, computed by scipy."""
    correct = min(correct, n)
    expected = scipy_stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    ours = stats.wilson_interval(correct, n)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_newcombe_reproduces_the_published_example() -> None:
    """Newcombe 1998, method 10, cells 36, 12, 2, 0: difference 0.2000, interval 0.0569 to 0.3404."""
    dense, slim = cells(36, 12, 2, 0)
    gap = stats.paired_difference(dense, slim)
    assert (-gap.value, -gap.high, -gap.low) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_a_difference_without_discordant_pairs_is_not_claimed_to_be_exactly_zero() -> None:
    """The interval keeps a width where a bootstrap would collapse."""
    dense, slim = cells(40, 0, 0, 10)
    gap = stats.paired_difference(dense, slim)
    assert gap.value == 0
    assert gap.low < 0 < gap.high


@pytest.mark.parametrize("cluster", [1, 4])
def test_paired_difference_covers_the_truth(cluster: int) -> None:
    """Simulated coverage near 95 %, with questions that share a picture and without."""
    rng = np.random.default_rng(7)
    truth, covered, runs, groups = -0.05, 0, 400, 60
    for _ in range(runs):
        hard = np.repeat(rng.random(groups) < 0.2, cluster)  # all questions of a hard picture fail together
        dense = ~hard & (rng.random(groups * cluster) < 0.9)
        lost = np.repeat(rng.random(groups) < 0.05 / 0.72, cluster)
        slim = dense & ~lost
        names = np.repeat(np.arange(groups), cluster).tolist()
        gap = stats.paired_difference(dense, slim, names)
        covered += gap.low <= truth <= gap.high
    assert 0.92 <= covered / runs <= 1.0


def test_ignoring_clusters_would_be_overconfident() -> None:
    """Copies of the same answers must not narrow the interval."""
    dense, slim = cells(30, 6, 1, 13)
    single = stats.paired_difference(dense, slim)
    copies = stats.paired_difference(
        np.repeat(dense, 8), np.repeat(slim, 8), np.repeat(np.arange(50), 8).tolist()
    )
    naive = stats.paired_difference(np.repeat(dense, 8), np.repeat(slim, 8))
    width = single.high - single.low
    assert copies.high - copies.low == pytest.approx(width, rel=0.1)
    assert naive.high - naive.low < 0.5 * width


def test_design_effect_of_full_dependence_is_the_cluster_size() -> None:
    """With identical outcomes inside clusters of five, five questions are worth one."""
    values = np.repeat(np.random.default_rng(0).integers(0, 2, 200), 5)
    assert stats.design_effect(values, np.repeat(np.arange(200), 5).tolist()) == pytest.approx(5, rel=0.02)
    assert stats.design_effect(values, None) == 1.0


def test_bootstrap_reproduces_the_binomial_spread() -> None:
    """Replicates of a share have its standard error, and both shares stay paired."""
    dense, slim = cells(60, 20, 5, 15)
    draws = stats.paired_bootstrap(dense, slim, seed=3)
    assert draws[:, 0].std() == pytest.approx(np.sqrt(0.8 * 0.2 / 100), rel=0.06)
    gap = draws[:, 1] - draws[:, 0]
    assert gap.std() == pytest.approx(np.sqrt((0.25 - 0.15**2) / 100), rel=0.06)
    assert np.array_equal(draws, stats.paired_bootstrap(dense, slim, seed=3))


def test_bootstrap_draws_whole_groups() -> None:
    """Two groups, one all right and one all wrong: only shares 0, 1/2 and 1 can occur."""
    draws = stats.paired_bootstrap([1, 1, 0, 0], [1, 1, 0, 0], ["a", "a", "b", "b"])
    assert set(np.unique(draws)) == {0.0, 0.5, 1.0}


def test_retention_raw_and_beyond_chance() -> None:
    """(slim - chance) / (dense - chance); nothing to retain when the dense model only guesses."""
    dense, slim = cells(70, 20, 2, 8)
    raw = stats.retention(dense, slim)
    corrected = stats.retention(dense, slim, 0.25)
    assert raw is not None
    assert corrected is not None
    assert raw.value == pytest.approx(0.72 / 0.9)
    assert corrected.value == pytest.approx((0.72 - 0.25) / (0.9 - 0.25))
    assert raw.low < raw.value < raw.high
    assert stats.retention(dense, slim, 0.95) is None
    # 90 % of 100 is 82.6 % at least (Wilson): above 82 % beyond noise, not above 83 %.
    assert stats.retention(dense, slim, 0.82) is not None
    assert stats.retention(dense, slim, 0.83) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_bounded(p_values: list[float]) -> None:
    """Adjusted p-values are at least the raw ones, at most Bonferroni's, and keep the order."""
    adjusted = stats.holm(p_values)
    for raw, new in zip(p_values, adjusted, strict=True):
        assert raw <= new + 1e-12
        assert new <= min(1.0, raw * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= -1e-12)


def test_holm_worked_example() -> None:
    """Holm 1979: 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06."""
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_empty_and_unequal_outcomes_are_refused() -> None:
    """No pairs, no difference."""
    with pytest.raises(ValueError, match="equally long"):
        stats.paired_difference([1, 0], [1])
    with pytest.raises(ValueError, match="groups"):
        stats.paired_difference([1, 0], [1, 1], ["a"])


def test_normal_quantile_is_the_usual_one() -> None:
    """Two-sided 95 % uses 1.96."""
    assert NormalDist().inv_cdf(0.975) == pytest.approx(scipy_stats.norm.ppf(0.975))
