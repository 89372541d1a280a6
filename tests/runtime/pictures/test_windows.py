"""Windows are those that transformers cuts, patch by patch."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from topovlm.runtime.pictures.windows import window_gather

sides = st.integers(1, 40)


@settings(deadline=None)  # the first example imports torch
@given(high=sides, wide=sides, block=st.integers(1, 3), window=st.integers(1, 5))
def test_windows_are_those_of_transformers(high: int, wide: int, block: int, window: int) -> None:
    """The same patches in the same order of windows, for any grid and window."""
    import torch
    from transformers.vision_utils import get_vision_window_index

    grid = torch.tensor([[1, high * block, wide * block]])
    order, ends = get_vision_window_index(grid, block, window * block * 14, 14)
    patches = (order[:, None] * block**2 + torch.arange(block**2)).flatten().numpy()
    found = window_gather(high * block, wide * block, block, window)
    assert found.dtype == np.int64
    assert found.shape[1] == (window * block) ** 2
    true = np.split(patches, ends[1:-1].numpy())
    assert [list(row[row >= 0]) for row in found] == [list(part) for part in true]


def test_a_window_over_the_edge_is_padded() -> None:
    """Three tokens in a row, windows of two: the second window holds one token."""
    assert window_gather(1, 3, 1, 2).tolist() == [[0, 1, -1, -1], [2, -1, -1, -1]]
