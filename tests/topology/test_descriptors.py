from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.strategies import cases
from topovlm.errors import InputError
from topovlm.topology import descriptors
from topovlm.topology.barcode import Barcode


@st.composite
def barcodes(draw) -> Barcode:
    layers = draw(st.integers(1, 6))
    end = 2 * layers - 1
    bar = st.tuples(st.integers(0, 1), st.integers(0, end - 1), st.integers(1, end)).filter(
        lambda b: b[1] < b[2]
    )
    return Barcode.from_rows(np.array(draw(st.lists(bar, max_size=12))), layers)


def alive(barcode: Barcode, dim: int, low: int, high: int) -> int:
    """Bars alive at both layers and all between, from the definition on indices."""
    return sum(1 for p, b, d in barcode.bars.tolist() if p == dim and b <= 2 * low and 2 * high < d)


@given(barcodes(), st.integers(0, 1), st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]))
@cases(80)
def test_mean_persistence_is_the_paper_s_formula(barcode, dim, alpha):
    """Zbar(l): weighted mean over l' != l of the share of bars alive at l that reach l'; 0 without bars."""
    count = barcode.layers
    similarity = descriptors.interlayer_persistence(barcode, dim)
    means = descriptors.mean_persistence(barcode, dim, alpha)
    for layer in range(count):
        total = weights = 0.0
        betti = alive(barcode, dim, layer, layer)
        assert descriptors.betti_curve(barcode, dim)[layer] == betti
        for other in range(count):
            both = alive(barcode, dim, min(layer, other), max(layer, other))
            assert descriptors.rank_matrix(barcode, dim)[layer, other] == both
            share = both / betti if betti else 0.0
            assert similarity[layer, other] == pytest.approx(share)
            if other != layer:
                weights += abs(layer - other) ** alpha
                total += abs(layer - other) ** alpha * share
        assert means[layer] == pytest.approx(total / weights if weights else 0.0)


@given(barcodes(), st.integers(0, 1))
@cases(60)
def test_released_code_divides_by_the_other_layer_and_includes_itself(barcode, dim):
    """compat="released-code": (1/L) sum over all l' of R(l, l') / beta(l'), NaN as soon as a beta is 0."""
    count = barcode.layers
    values = descriptors.mean_persistence(barcode, dim, 0.0, "released-code")
    betti = [alive(barcode, dim, layer, layer) for layer in range(count)]
    for layer in range(count):
        if min(betti) == 0:
            assert math.isnan(values[layer])
        else:
            shares = [alive(barcode, dim, min(layer, o), max(layer, o)) / betti[o] for o in range(count)]
            assert values[layer] == pytest.approx(sum(shares) / count)


@given(barcodes(), st.integers(0, 1))
@cases(60)
def test_images_count_and_place_every_effective_bar(barcode, dim):
    """The effective image holds every bar that reaches a layer; births and Gaussian image follow from it."""
    lived = [
        (math.ceil(b / 2), math.ceil(d / 2))
        for p, b, d in barcode.bars.tolist()
        if p == dim and math.ceil(b / 2) < math.ceil(d / 2)
    ]
    image = descriptors.effective_image(barcode, dim)
    assert image.sum() == len(lived)
    for birth, death in lived:
        assert image[birth, death] == lived.count((birth, death))
    births = descriptors.births_frequency(barcode, dim)
    weighted = descriptors.births_frequency(barcode, dim, "persistence")
    smooth = descriptors.gaussian_image(barcode, dim, sigma=0.7)
    squared = descriptors.gaussian_image(barcode, dim, sigma=0.7, weight=lambda lives: lives**2)
    for layer in range(barcode.layers):
        born = [d - b for b, d in lived if b == layer]
        assert births[layer] == pytest.approx(len(born) / len(lived) if lived else 0.0)
        assert weighted[layer] == pytest.approx(sum(born) / sum(d - b for b, d in lived) if lived else 0.0)
        for life in range(1, barcode.layers + 1):
            bells = [math.exp(-((layer - b) ** 2 + (life - (d - b)) ** 2) / (2 * 0.49)) for b, d in lived]
            lives = [d - b for b, d in lived]
            assert smooth[layer, life - 1] == pytest.approx(
                sum(w * g for w, g in zip(lives, bells, strict=True))
            )
            assert squared[layer, life - 1] == pytest.approx(
                sum(w * w * g for w, g in zip(lives, bells, strict=True))
            )
        assert descriptors.activity(smooth)[layer] == pytest.approx(smooth[layer].sum())


def test_worked_example():
    """Three layers, three loops: one throughout, one in the first two, one in the last only."""
    barcode = Barcode.from_rows(np.array([[1, 0, 5], [1, 0, 3], [1, 4, 5], [1, 1, 2], [0, 0, 5]]), 3)
    assert descriptors.betti_curve(barcode, 1).tolist() == [2, 2, 2]
    assert descriptors.rank_matrix(barcode, 1).tolist() == [[2, 2, 1], [2, 2, 1], [1, 1, 2]]
    assert descriptors.mean_persistence(barcode, 1).tolist() == [0.75, 0.75, 0.5]
    assert descriptors.mean_persistence(barcode, 1, alpha=1.0).tolist() == pytest.approx([2 / 3, 0.75, 0.5])
    assert descriptors.births_frequency(barcode, 1).tolist() == pytest.approx([2 / 3, 0, 1 / 3])


def test_both_normalisations():
    """Dividing by the row's or the column's Betti number are transposes of each other."""
    barcode = Barcode.from_rows(np.array([[1, 0, 3], [1, 0, 1], [1, 2, 3]]), 2)
    row = descriptors.interlayer_persistence(barcode, 1, "row")
    np.testing.assert_allclose(descriptors.interlayer_persistence(barcode, 1, "column"), row.T)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: descriptors.mean_persistence(b, 2), "dim = 2"),
        (lambda b: descriptors.mean_persistence(b, 1, float("nan")), "alpha = nan"),
        (lambda b: descriptors.mean_persistence(b, 1, -1.0, "released-code"), "alpha = -1"),
        (lambda b: descriptors.mean_persistence(b, 1, 0.0, "v2"), "compat = 'v2'"),
        (lambda b: descriptors.interlayer_persistence(b, 1, "both"), "normalisation = 'both'"),
        (lambda b: descriptors.gaussian_image(b, 1, sigma=0.0), "sigma = 0.0"),
        (lambda b: descriptors.births_frequency(b, 1, "life"), "weight = 'life'"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(call, words):
    """A wrong parameter is named with its rule."""
    with pytest.raises(InputError, match=words):
        call(Barcode.from_rows(np.array([[1, 0, 3]]), 2))
