# ruff: noqa: PLR0917 - compiled kernels take their arrays one by one
"""Interval decomposition of V_0 <- W_0 -> V_1 <- W_1 -> ... over Z/2, one layer at a time, on bit rows.

Carlsson and de Silva, Zigzag Persistence (2010): along the way a basis of the current V is kept whose initial
segments span the right filtration, with the birth of each element. Two arrows are taken at once, so that no
basis of W has to be stored: the columns of W -> V_left, in the coordinates of that basis, are reduced by
highest place while the columns of W -> V_right follow every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from topovlm.topology.jit import ZERO, Ints, Longs, Whole, Words, kernel

Columns = tuple[np.ndarray, np.ndarray]
BIT = np.uint64(1)


@intrinsic
def _leading_zeros(typing_context: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), build


@kernel
def _highest_bit(word: np.uint64) -> np.int64:
    return 63 - np.int64(_leading_zeros(word))  # type: ignore[call-arg] # numba adds the typing context


@kernel
def _highest(row: Words, words: Whole) -> Whole:
    """Highest set bit among the first `words` words of a row, or -1."""
    for word in range(words - 1, -1, -1):
        if row[word] != 0:
            return word * 64 + _highest_bit(row[word])
    return -1


@kernel
def _flip(row: Words, bit: Whole) -> None:
    row[bit >> 6] ^= BIT << np.uint64(bit & 63)


@kernel
def _flip_all(row: Words, offset: Whole, start: Whole, stop: Whole, bits: Ints) -> None:
    for at in range(start, stop):
        _flip(row, offset + bits[at])


@kernel
def _add_words(row: Words, other: Words, start: Whole, stop: Whole) -> None:
    for at in range(start, stop):
        row[at] ^= other[at]


@kernel
def _change_basis(vector: Words, stored: Ints, basis: Words, place_of: Ints, row: Words) -> None:
    """Write the coordinates of `vector` in the basis to `row`; `vector` is used up."""
    for word in range(len(vector) - 1, -1, -1):
        while vector[word] != 0:
            bit = word * 64 + _highest_bit(vector[word])
            place = place_of[bit]
            _flip(row, np.int64(place))
            if stored[place] < 0:
                _flip(vector, bit)
            else:
                _add_words(vector, basis[stored[place]], ZERO, word + 1)


@kernel
def _reduce_left(
    tops: Ints, stored: Ints, basis: Words, left_first: Longs, left_places: Ints, rows: Words
) -> tuple[Ints, Ints]:
    """Reduce the columns of W -> V_left by highest place, the rest of every row following.

    rows [columns, words + right words] holds the images in V_right behind `words` empty words. Returns the
    row that owns each place of the basis, or -1, and the rows of the kernel.
    """
    size = len(tops)
    words = (size + 63) // 64
    columns = len(left_first) - 1
    place_of = np.empty(size, dtype=np.int32)
    place: Whole
    for place in range(size):
        place_of[tops[place]] = place
    vector = np.zeros(words, dtype=np.uint64)
    owner = np.full(size, -1, dtype=np.int32)
    kernel_rows = np.empty(columns, dtype=np.int32)
    kernel_size = 0
    for c in range(columns):
        row = rows[c]
        _flip_all(vector, ZERO, left_first[c], left_first[c + 1], left_places)
        _change_basis(vector, stored, basis, place_of, row)
        place = _highest(row, words)
        while place >= 0 and owner[place] >= 0:
            other = rows[owner[place]]
            _add_words(row, other, ZERO, (place >> 6) + 1)
            _add_words(row, other, words, rows.shape[1])
            place = _highest(row, (place >> 6) + 1)
        if place >= 0:
            owner[place] = c
        else:
            kernel_rows[kernel_size] = c
            kernel_size += 1
    return owner, kernel_rows[:kernel_size]


@kernel
def _is_unit(row: Words, bit: Whole) -> bool | np.bool_:
    """Whether a row whose highest bit is `bit` has no other."""
    word = bit >> 6
    if row[word] & (row[word] - BIT) != 0:
        return False
    return _highest(row, word) < 0


@kernel
def take_two_arrows(
    tops: Ints, stored: Ints, basis: Words, births: Longs, left_first: Longs, left_places: Ints,
    right_first: Longs, right_places: Ints, right_dim: Whole, index: Whole,
) -> tuple[Ints, Ints, Words, Longs, Longs]:  # fmt: skip
    """Go from V_left over W (index) to V_right (index + 1).

    The basis of V, in the order of the filtration: `tops` [n], the distinct highest bits; `stored` [n], the
    row of `basis` (uint64) that holds the vector, or -1 for a unit vector; `births` [n]. Columns of both maps
    are sparse. Returns the same four for V_right and the bars that ended, int64 [m, 2].
    """
    size = len(tops)
    words = (size + 63) // 64
    columns = len(left_first) - 1
    right_words = (right_dim + 63) // 64
    rows = np.zeros((columns, words + right_words), dtype=np.uint64)
    for c in range(columns):
        _flip_all(rows[c], words * 64, right_first[c], right_first[c + 1], right_places)
    owner, kernel_rows = _reduce_left(tops, stored, basis, left_first, left_places, rows)

    bars = np.empty((size + columns, 2), dtype=np.int64)
    ended = 0
    new_tops = np.empty(right_dim, dtype=np.int32)
    new_stored = np.full(right_dim, -1, dtype=np.int32)
    new_births = np.empty(right_dim, dtype=np.int64)
    taken = np.full(right_dim, -1, dtype=np.int32)
    filled = kept = 0
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
            _add_words(row, rows[taken[bit], words:], ZERO, (bit >> 6) + 1)
            bit = _highest(row, (bit >> 6) + 1)
        if bit < 0:
            bars[ended, 0], bars[ended, 1] = birth, index + 1
            ended += 1
            continue
        taken[bit] = c
        new_tops[filled], new_births[filled] = bit, birth
        if not _is_unit(row, bit):
            new_stored[filled] = kept
            kept += 1
        filled += 1
    new_basis = np.zeros((kept, right_words), dtype=np.uint64)
    for place in range(filled):
        if new_stored[place] >= 0:
            _add_words(new_basis[new_stored[place]], rows[taken[new_tops[place]], words:], ZERO, right_words)
    for bit in range(right_dim):
        if taken[bit] < 0:
            new_tops[filled], new_births[filled] = bit, index + 1
            filled += 1
    return new_tops, new_stored, new_basis, new_births, bars[:ended].copy()


@dataclass
class Decomposition:
    """Bars of one homology dimension so far, and the adapted basis of the current layer."""

    tops: np.ndarray
    stored: np.ndarray
    basis: np.ndarray
    births: np.ndarray
    bars: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def start(cls, dim: int) -> Decomposition:
        """At layer 0, whose homology has dimension `dim`: everything is born at index 0."""
        basis = np.empty((0, (dim + 63) // 64), dtype=np.uint64)
        units = np.full(dim, -1, dtype=np.int32)
        return cls(np.arange(dim, dtype=np.int32), units, basis, np.zeros(dim, dtype=np.int64))

    def advance(self, left: Columns, right: Columns, right_dim: int, index: int) -> None:
        """Take the intersection at `index`, with its maps into both layers, and the layer after it."""
        state = (self.tops, self.stored, self.basis, self.births)
        self.tops, self.stored, self.basis, self.births, ended = take_two_arrows(
            *state, *left, *right, right_dim, index
        )
        self.bars.append(ended)

    def finish(self, end: int) -> np.ndarray:
        """All bars, int64 [n, 2]; those alive at the last layer die at `end`."""
        open_bars = np.stack([self.births, np.full_like(self.births, end)], axis=1)
        return np.concatenate([*self.bars, open_bars])
