"""What a tower is told about the grid of patches: places, taps into a table of learned positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

_KEYS_A = -0.75  # of the bicubic kernel that torch uses


@dataclass(frozen=True)
class Taps:
    """How a square table is read at places between its entries; beyond its edge the edge counts."""

    mode: Literal["bilinear", "bicubic"]
    align_corners: bool


def positions(rows: int, columns: int, block: int = 1) -> np.ndarray:
    """(row, column) of each patch, int64 `[patches, 2]`, squares of `block` x `block` patches at a time."""
    places = np.indices((rows, columns)).reshape(2, rows // block, block, columns // block, block)
    return np.ascontiguousarray(places.transpose(1, 3, 2, 4, 0).reshape(-1, 2).astype(np.int64))


def interpolation(
    places: np.ndarray, size: tuple[int, int], side: int, taps: Taps
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of a `side` x `side` table and their weights, for patches at `places` of a grid of `size`.

    Indices int64 and weights float32, both `[patches, taps]`, 4 for bilinear and 16 for bicubic.
    """
    (row_at, row_weight), (column_at, column_weight) = (
        _axis(places[:, axis], size[axis], side, taps) for axis in (0, 1)
    )
    indices = row_at[:, :, None] * side + column_at[:, None, :]
    weights = row_weight[:, :, None] * column_weight[:, None, :]
    return indices.reshape(len(places), -1), weights.reshape(len(places), -1)


def _axis(index: np.ndarray, size: int, side: int, taps: Taps) -> tuple[np.ndarray, np.ndarray]:
    """Taps along one axis. In single precision, operation by operation as torch does it."""
    at = index.astype(np.float32)
    if taps.align_corners:
        source = at * np.float32(side - 1) / np.float32(max(size - 1, 1))
    else:
        source = (at + np.float32(0.5)) * np.float32(side) / np.float32(size) - np.float32(0.5)
    floor = np.floor(source)
    offsets = np.arange(2) if taps.mode == "bilinear" else np.arange(-1, 3)
    distance = np.abs(source[:, None] - floor[:, None] - offsets.astype(np.float32))
    near = floor.astype(np.int64)[:, None] + offsets
    return np.clip(near, 0, side - 1), _KERNELS[taps.mode](distance)


def _hat(distance: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1 - distance, 0)
    return weights


def _keys(distance: np.ndarray) -> np.ndarray:
    a = np.float32(_KEYS_A)
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    weights: np.ndarray = np.where(distance <= 1, near, far).astype(np.float32)
    return weights


_KERNELS = {"bilinear": _hat, "bicubic": _keys}
