"""The square windows within which most blocks of a tower look (Qwen2.5-VL)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def window_gather(rows: int, columns: int, block: int, window: int) -> npt.NDArray[np.int64]:
    """The patches of each window: `[windows, size]`, -1 where a window reaches over the picture's edge.

    rows, columns: of the picture, in patches; those of one token, squares of `block` x `block`, follow each
    other. Windows are squares of `window` x `window` tokens, numbered row by row.
    """
    tokens = np.arange(rows // block * (columns // block)).reshape(rows // block, columns // block)
    over = [(0, -length % window) for length in tokens.shape]
    padded = np.pad(tokens, over, constant_values=-1)
    high, wide = (length // window for length in padded.shape)
    cut = padded.reshape(high, window, wide, window).swapaxes(1, 2).reshape(high * wide, -1, 1)
    patches = cut * block**2 + np.arange(block**2)
    return np.where(cut < 0, -1, patches).reshape(high * wide, -1).astype(np.int64)
