from __future__ import annotations

import numpy as np
import pytest

from tests.topology.strategies import trajectory
from topovlm.errors import InputError
from topovlm.topology.descriptors import mean_persistence
from topovlm.topology.resample import Spread, resample_scores
from topovlm.topology.zigzag import zigzag_barcode

CLOUDS = trajectory(60, 5, 8, seed=4)


def test_all_samples_give_the_score_itself():
    """A subset of everything, in order, is the whole: no spread."""
    spread = resample_scores(CLOUDS, k=4, repeats=2, fraction=1.0)
    expected = mean_persistence(zigzag_barcode(CLOUDS, k=4))
    np.testing.assert_array_equal(spread.values, [expected, expected])


def test_subsets_depend_on_the_seed_alone():
    """The same seed gives the same scores, more repeats only append; another seed gives others."""
    few = resample_scores(CLOUDS, k=4, repeats=2, seed=7)
    many = resample_scores(CLOUDS, k=4, repeats=4, seed=7, threads=3)
    np.testing.assert_array_equal(many.values[:2], few.values)
    assert not np.array_equal(resample_scores(CLOUDS, k=4, repeats=2, seed=8).values, few.values)


def test_bootstrap_accepts_repeated_samples():
    """Drawing with repetition works: copies are neighbours at distance 0."""
    spread = resample_scores(CLOUDS, k=4, repeats=3, method="bootstrap", fraction=1.0)
    assert spread.values.shape == (3, 5)
    assert np.isfinite(spread.values).all()


def test_spread_summaries():
    """Median, interval and frequency of selection follow from the values."""
    spread = Spread(np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 4.0, 2.0]]))
    assert spread.median.tolist() == [0.0, 1.0, 2.0]
    low, high = spread.interval(0.5)
    assert low.tolist() == [0.0, 1.0, 2.0]
    assert high.tolist() == [1.5, 2.5, 2.0]
    assert spread.selection_frequency(1).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert spread.selection_frequency(3).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repeats": 0}, "repeats = 0"),
        ({"fraction": 0.0}, "fraction = 0.0"),
        ({"fraction": 0.05}, "more than 4 samples"),
        ({"method": "jackknife"}, "method = 'jackknife'"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(options, words):
    """A wrong parameter is named with its rule."""
    with pytest.raises(InputError, match=words):
        resample_scores(CLOUDS, k=4, **options)


def test_one_layer_array_is_refused():
    """Subsets are taken from all layers at once: the array has three axes."""
    with pytest.raises(InputError, match="layers, samples, width"):
        resample_scores(CLOUDS[0], k=4)
