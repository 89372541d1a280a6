"""The barcode of a layer zigzag: what the engines return and the descriptors read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topovlm.errors import InputError, explain


@dataclass(frozen=True)
class Barcode:
    """Bars of a zigzag K_0 <- K_0 n K_1 -> K_1 <- ... -> K_(L-1) over Z/2.

    `bars` is int64 [n, 3], rows (dimension, birth, death), sorted. Indices run over 0..2(L-1): index 2l is
    layer l, index 2l + 1 the intersection of layers l and l + 1. A bar is alive at the indices birth <= i <
    death, so a bar that reaches the last layer has death 2L - 1.
    """

    bars: NDArray[np.int64]
    layers: int
    max_homology_dim: int = 1

    def of_dim(self, dim: int) -> NDArray[np.int64]:
        """Bars of one homology dimension: int64 [n, 2], columns (birth, death)."""
        if not 0 <= dim <= self.max_homology_dim:
            rule = f"the barcode holds homology dimensions 0 to {self.max_homology_dim}"
            raise InputError(explain("dim", dim, rule, "Compute it with a larger max_homology_dim."))
        return self.bars[self.bars[:, 0] == dim, 1:]

    def betti(self, dim: int) -> NDArray[np.int64]:
        """Betti number at every index: int64 [2L - 1], layers at even places, intersections at odd ones."""
        bars = self.of_dim(dim)
        change = np.zeros(2 * self.layers, dtype=np.int64)
        np.add.at(change, bars[:, 0], 1)
        np.add.at(change, bars[:, 1], -1)
        return np.cumsum(change)[:-1]

    @classmethod
    def from_rows(cls, rows: np.ndarray, layers: int, max_homology_dim: int = 1) -> Barcode:
        """Sort rows (dimension, birth, death) into the canonical order; rows may be empty."""
        bars = np.asarray(rows, dtype=np.int64).reshape(-1, 3)
        order = np.lexsort((bars[:, 2], bars[:, 1], bars[:, 0]))
        return cls(np.ascontiguousarray(bars[order]), layers, max_homology_dim)
