"""How many neighbours the layers' graphs have: as usual, fewer for few samples, as asked."""

from __future__ import annotations

import numpy as np
import pytest

from topovlm.choose.loops import ENOUGH_LOOPS, USUAL_K, barcode_with_loops, loops
from topovlm.topology.zigzag import zigzag_barcode


def _clouds(samples: int, layers: int = 4) -> np.ndarray:
    """Points in four dimensions that move a little from layer to layer."""
    rng = np.random.default_rng(samples)
    start = rng.normal(size=(samples, 4))
    return np.stack([start + 0.1 * layer * rng.normal(size=start.shape) for layer in range(layers)])


def test_many_samples_have_the_usual_number_of_neighbours() -> None:
    """The published method's, wherever its graphs have loops."""
    k, barcode = barcode_with_loops(_clouds(1600))
    assert k == USUAL_K
    assert loops(barcode) >= ENOUGH_LOOPS


@pytest.mark.parametrize("samples", [40, 80, 160])
def test_few_samples_have_fewer_neighbours_and_still_loops(samples: int) -> None:
    """The largest number tried that leaves enough of them."""
    states = _clouds(samples)
    assert loops(zigzag_barcode(states, k=USUAL_K)) < ENOUGH_LOOPS
    k, barcode = barcode_with_loops(states)
    assert k < USUAL_K
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
