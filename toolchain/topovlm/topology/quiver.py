# ruff: noqa: PLR0917 - compiled kernels take their arrays one by one
"""Interval decomposition of V_0 <- W_0 -> V_1 <- W_1 -> ... over Z/2, one layer at a time, on bit rows.

Carlsson and de Silva, Zigzag Persistence (2010): along the way a basis of the current V is kept whose initial
segments span the right filtration, with the birth of each element. Two arrows are taken at once, so that no
basis of W has to be stored: the columns of W -> V_left, in the coordinates of that basis, are reduced by
highest place while the columns of W -> V_right follow every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from topovlm.topology.jit import kernel

Columns = tuple[np.ndarray, np.ndarray]
ONE = np.uint64(1)


@intrinsic
def _leading_zeros(typing_context, word):
    def build(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), build


@kernel
def _highest_bit(word):
    return 63 - np.int64(_leading_zeros(word))  # type: ignore[call-arg]


@kernel
def _highest(row, words):
    """Highest set bit among the first `words` words of a row, or -1."""
    for word in range(words - 1, -1, -1):
        if row[word] != 0:
            return word * 64 + _highest_bit(row[word])
    return -1


@kernel
def _flip(row, bit):
    row[bit >> 6] ^= ONE << np.uint64(bit & 63)


@kernel
def _add_words(row, other, start, stop):
    for at in range(start, stop):
        row[at] ^= other[at]


@kernel
def _change_basis(vector, basis, is_unit, place_of, row):
    """Write the coordinates of `vector` in `basis` to `row`; `vector` is used up."""
    for word in range(basis.shape[1] - 1, -1, -1):
        while vector[word] != 0:
            bit = word * 64 + _highest_bit(vector[word])
            place = place_of[bit]
            _flip(row, place)
            if is_unit[place]:
                _flip(vector, bit)
            else:
                _add_words(vector, basis[place], 0, word + 1)


@kernel
def _reduce_left(basis, is_unit, left_first, left_places, rows):
    """Reduce the columns of W -> V_left by highest place, the rest of every row following.

    rows [columns, words + right words] holds the images in V_right behind `words` empty words. Returns the
    row that owns each place of the basis, or -1, and the rows of the kernel.
    """
    size, words = basis.shape
    columns = len(left_first) - 1
    place_of = np.empty(words * 64, dtype=np.int32)
    for place in range(size):
        place_of[_highest(basis[place], words)] = place
    vector = np.zeros(words, dtype=np.uint64)
    owner = np.full(size, -1, dtype=np.int32)
    kernel_rows = np.empty(columns, dtype=np.int32)
    kernel_size = 0
    for c in range(columns):
        row = rows[c]
        for at in range(left_first[c], left_first[c + 1]):
            _flip(vector, left_places[at])
        _change_basis(vector, basis, is_unit, place_of, row)
        place = _highest(row, words)
        while place >= 0 and owner[place] >= 0:
            other = rows[owner[place]]
            _add_words(row, other, 0, (place >> 6) + 1)
            _add_words(row, other, words, rows.shape[1])
            place = _highest(row, (place >> 6) + 1)
        if place >= 0:
            owner[place] = c
        else:
            kernel_rows[kernel_size] = c
            kernel_size += 1
    return owner, kernel_rows[:kernel_size]


@kernel
def _is_unit(row, words):
    found = False
    for at in range(words):
        if row[at] != 0:
            if found or (row[at] & (row[at] - ONE)) != 0:
                return False
            found = True
    return found


@kernel
def take_two_arrows(
    basis, is_unit, births, left_first, left_places, right_first, right_places, right_dim, index
):
    """Go from V_left over W (index) to V_right (index + 1).

    basis: uint64 [n, words], rows with distinct highest bits, in the order of the filtration; is_unit [n];
    births [n]. Columns of both maps are sparse. Returns the same three for V_right and the bars that ended,
    int64 [m, 2].
    """
    size, words = basis.shape
    columns = len(left_first) - 1
    right_words = (right_dim + 63) // 64
    rows = np.zeros((columns, words + right_words), dtype=np.uint64)
    for c in range(columns):
        for at in range(right_first[c], right_first[c + 1]):
            _flip(rows[c], words * 64 + right_places[at])
    owner, kernel_rows = _reduce_left(basis, is_unit, left_first, left_places, rows)

    bars = np.empty((size + columns, 2), dtype=np.int64)
    ended = 0
    new_basis = np.zeros((right_dim, right_words), dtype=np.uint64)
    new_unit = np.zeros(right_dim, dtype=np.bool_)
    new_births = np.empty(right_dim, dtype=np.int64)
    taken = np.full(right_dim, -1, dtype=np.int32)
    filled = 0
    for at in range(len(kernel_rows) + size):
        if at < len(kernel_rows):
            c, birth = kernel_rows[at], index
        else:
            c, birth = owner[at - len(kernel_rows)], births[at - len(kernel_rows)]
            if c < 0:
                bars[ended, 0], bars[ended, 1] = birth, index
                ended += 1
                continue
        row = rows[c, words:]
        bit = _highest(row, right_words)
        while bit >= 0 and taken[bit] >= 0:
            _add_words(row, new_basis[taken[bit]], 0, (bit >> 6) + 1)
            bit = _highest(row, (bit >> 6) + 1)
        if bit < 0:
            bars[ended, 0], bars[ended, 1] = birth, index + 1
            ended += 1
            continue
        taken[bit] = filled
        new_basis[filled] = row
        new_unit[filled] = _is_unit(row, right_words)
        new_births[filled] = birth
        filled += 1
    for bit in range(right_dim):
        if taken[bit] < 0:
            _flip(new_basis[filled], bit)
            new_unit[filled] = True
            new_births[filled] = index + 1
            filled += 1
    return new_basis, new_unit, new_births, bars[:ended].copy()


@dataclass
class Decomposition:
    """Bars of one homology dimension so far, and the adapted basis of the current layer."""

    basis: np.ndarray
    is_unit: np.ndarray
    births: np.ndarray
    bars: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def start(cls, dim: int) -> Decomposition:
        """At layer 0, whose homology has dimension `dim`: everything is born at index 0."""
        places = np.arange(dim)
        basis = np.zeros((dim, (dim + 63) // 64), dtype=np.uint64)
        basis[places, places >> 6] = ONE << (places & 63).astype(np.uint64)
        return cls(basis, np.ones(dim, dtype=np.bool_), np.zeros(dim, dtype=np.int64))

    def advance(self, left: Columns, right: Columns, right_dim: int, index: int) -> None:
        """Take the intersection at `index`, with its maps into both layers, and the layer after it."""
        self.basis, self.is_unit, self.births, ended = take_two_arrows(
            self.basis, self.is_unit, self.births, *left, *right, right_dim, index
        )
        self.bars.append(ended)

    def finish(self, end: int) -> np.ndarray:
        """All bars, int64 [n, 2]; those alive at the last layer die at `end`."""
        open_bars = np.stack([self.births, np.full_like(self.births, end)], axis=1)
        return np.concatenate([*self.bars, open_bars])
