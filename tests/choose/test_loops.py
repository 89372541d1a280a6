"""How many neighbours the layers' graphs have: as usual, fewer for few samples, as asked."""

from __future__ import annotations

import numpy as np
import pytest

from topovlm.choose.loops import (
    ENOUGH_LOOPS,
    LADDER,
    PUBLISHED_K,
    barcode_with_loops,
    barcodes_by_k,
    loops,
    most_bars,
    rank_correlation,
    steadiest,
)
from topovlm.topology.barcode import Barcode
from topovlm.topology.descriptors import effective_image, mean_persistence
from topovlm.topology.zigzag import zigzag_barcode


def _clouds(samples: int, layers: int = 4) -> np.ndarray:
    """Points in four dimensions that move a little from layer to layer."""
    rng = np.random.default_rng(samples)
    start = rng.normal(size=(samples, 4))
    return np.stack([start + 0.1 * layer * rng.normal(size=start.shape) for layer in range(layers)])


@pytest.mark.parametrize("samples", [40, 80, 160])
def test_few_samples_still_have_loops(samples: int) -> None:
    """Where the published number of neighbours leaves next to none."""
    states = _clouds(samples)
    assert loops(zigzag_barcode(states, k=PUBLISHED_K)) < ENOUGH_LOOPS
    k, barcode = barcode_with_loops(states)
    assert k < PUBLISHED_K
    assert loops(barcode) >= ENOUGH_LOOPS
    assert np.array_equal(barcode.bars, zigzag_barcode(states, k=k).bars)


def test_a_number_that_was_asked_for_is_taken_as_it_is() -> None:
    """Also where it leaves no loops; never more than there are other samples."""
    assert barcode_with_loops(_clouds(80), 15)[0] == 15
    assert barcode_with_loops(_clouds(8), 15)[0] == 7


@pytest.mark.parametrize("samples", [2, 3, 8])
def test_a_handful_of_samples_is_no_error(samples: int) -> None:
    """Nothing is found in them, and nothing breaks."""
    k, barcode = barcode_with_loops(_clouds(samples))
    assert k <= samples - 1
    assert loops(barcode) < ENOUGH_LOOPS


def test_the_papers_rule_takes_the_number_with_the_most_loops() -> None:
    """Of all on the ladder, counted from barcodes of their own."""
    states = _clouds(200)
    k, barcode = barcode_with_loops(states)
    counts = {
        number: effective_image(zigzag_barcode(states, k=number, max_homology_dim=1), 1).sum()
        for number in LADDER
    }
    assert counts[k] == max(counts.values())
    assert np.array_equal(barcode.bars, zigzag_barcode(states, k=k, max_homology_dim=1).bars)


def test_the_plateau_is_where_neighbouring_numbers_agree() -> None:
    """Of made-up barcodes three agree about the layers, and the one in their middle has both neighbours."""

    def lasting(layers: list[int]) -> Barcode:
        rows = [[1, 0, 2 * number + 1] for number in layers for _ in range(6)]
        rows += [[1, 2 * layer, 2 * layer + 1] for layer in range(6) for _ in range(6)]
        return Barcode.from_rows(np.array(rows), 6)

    def backwards(barcode: Barcode) -> Barcode:
        rows = barcode.bars.copy()
        rows[:, 1], rows[:, 2] = 11 - barcode.bars[:, 2], 11 - barcode.bars[:, 1]
        return Barcode.from_rows(rows, 6)

    one = lasting([2, 3])
    barcodes = {3: backwards(one), 5: one, 7: one, 10: one, 15: backwards(one)}
    assert steadiest(barcodes) == 7
    assert rank_correlation(*(mean_persistence(b, 1) for b in (one, backwards(one)))) < 0.5


def test_rules_on_a_handful_of_points_are_no_error() -> None:
    """No number passes that of the other points, and without loops the largest is taken."""
    assert sorted(barcodes_by_k(_clouds(4))) == [3]
    assert barcode_with_loops(_clouds(4), "plateau")[0] == 3
    assert most_bars(barcodes_by_k(_clouds(4))) == 3


def test_rank_correlation_is_spearmans() -> None:
    """Against scipy, with ties; a constant has none."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.integers(0, 6, (2, 12))
        assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation(np.ones(5), np.arange(5)) == 0.0
