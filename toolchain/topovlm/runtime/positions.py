"""Positions in three rows, time, row and column, of prompts with pictures (M-RoPE).

All families that count so count single pictures alike: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, GLM-4V, PaddleOCR-VL.
They differ in videos (`pictures.films`), and in how the decoder mixes the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topovlm.errors import InputError, explain


def grid_positions(
    ids: npt.NDArray[np.int64],
    image_token_id: int | None,
    grids: Sequence[tuple[int, int, int]],
    paces: Sequence[float] = (),
) -> tuple[npt.NDArray[np.int64], int]:
    """ids `[S]`, (frames, rows, columns) of each picture in tokens -> positions `[3, S]` and the next one.

    `paces`: positions from one frame to the next, for each; 1 where it is left out.

    Text counts on in all rows. A picture counts from where the text stopped, along each axis of its grid, and
    takes as many positions as its longer side. New tokens take the next position, then the one after it, in
    all rows. Raises `InputError` when the prompt's image tokens are not those of the pictures.
    """
    pictured = ids == image_token_id
    positions = np.empty((3, len(ids)), np.int64)
    done = following = 0
    for grid, pace in zip(grids, paces or [1.0] * len(grids), strict=True):
        start = done + int(np.argmax(pictured[done:])) if pictured[done:].any() else len(ids)
        positions[:, done:start] = following + np.arange(start - done)
        following += start - done
        done = start + int(np.prod(grid))
        if done > len(ids) or not pictured[start:done].all():
            rule = f"has fewer image tokens side by side than a picture of {grid} takes"
            raise InputError(explain("prompt", f"{len(ids)} tokens", rule))
        steps = np.indices(grid).reshape(3, -1)
        steps[0] = (steps[0].astype(np.float32) * np.float32(pace)).astype(np.int64)
        positions[:, start:done] = following + steps
        following += max(grid[1:])
    if pictured[done:].any():
        rule = f"has {int(pictured[done:].sum())} image tokens more than its {len(grids)} pictures take"
        raise InputError(explain("prompt", f"{len(ids)} tokens", rule))
    positions[:, done:] = following + np.arange(len(ids) - done)
    return positions, int(positions.max(initial=-1)) + 1
