# ruff: noqa: PLR0917 - compiled kernels take their arrays one by one
"""Compiled kernels behind `complexes`: candidate selection, exact re-ranking, symmetrisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topovlm.topology.jit import ZERO, Floats, Ints, Longs, Whole, kernel

# Scaled clouds lie in the unit box; smaller distances are left to the exact path, where nothing underflows.
UNDERFLOW = 1e-30


@kernel
def squared_distance(points: Floats, i: Whole, j: Whole) -> float:
    """Float64 squared distance of rows i and j, in one fixed order of summation on every machine."""
    width = points.shape[1]
    s0 = s1 = s2 = s3 = 0.0
    whole = width - width % 4
    for c in range(0, whole, 4):
        d0 = np.float64(points[i, c]) - np.float64(points[j, c])
        d1 = np.float64(points[i, c + 1]) - np.float64(points[j, c + 1])
        d2 = np.float64(points[i, c + 2]) - np.float64(points[j, c + 2])
        d3 = np.float64(points[i, c + 3]) - np.float64(points[j, c + 3])
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    for c in range(whole, width):
        d0 = np.float64(points[i, c]) - np.float64(points[j, c])
        s0 += d0 * d0
    return (s0 + s1) + (s2 + s3)


@kernel
def _sift_down(keys: Floats, ids: Ints, size: Whole) -> None:
    """Restore a max-heap by (key, id) whose root was replaced."""
    at = 0
    key, idx = keys[0], ids[0]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            keys[right] > keys[child] or (keys[right] == keys[child] and ids[right] > ids[child])
        ):
            child = right
        if keys[child] < key or (keys[child] == key and ids[child] < idx):
            break
        keys[at], ids[at] = keys[child], ids[child]
        at = child
    keys[at], ids[at] = key, idx


@kernel
def _insert_nearest(keys: Floats, ids: Ints, size: Whole, limit: Whole, key: float, idx: Whole) -> Whole:
    """Insert (key, idx) into an ascending list of at most `limit` pairs; return the new size."""
    if size == limit:
        if key > keys[size - 1] or (key == keys[size - 1] and idx > ids[size - 1]):
            return size
        at = size - 1
    else:
        at = size
        size += 1
    while at > 0 and (keys[at - 1] > key or (keys[at - 1] == key and ids[at - 1] > idx)):
        keys[at], ids[at] = keys[at - 1], ids[at - 1]
        at -= 1
    keys[at], ids[at] = key, idx
    return size


@kernel
def centre(points: Floats, work: Floats, squares: Floats) -> float:
    """Write the centred cloud, scaled into the unit box, to `work` and its squared norms to `squares`.

    Returns the scale, a power of two; 0 where the spread of the cloud overflows.
    """
    count, width = points.shape
    mean = np.zeros(width, dtype=np.float64)
    for i in range(count):
        for c in range(width):
            mean[c] += points[i, c]
    mean /= count
    largest = 0.0
    for i in range(count):
        for c in range(width):
            largest = max(largest, abs(points[i, c] - mean[c]))
    if not largest < np.inf:
        return 0.0
    scale = 2.0 ** -np.ceil(np.log2(largest)) if largest > 0.0 else 1.0
    for i in range(count):
        total = 0.0
        for c in range(width):
            value = (points[i, c] - mean[c]) * scale
            work[i, c] = value
            total += value * value
        squares[i] = total
    return scale


@kernel
def _lowest_keys(keys: Floats, ids: Ints, size: Whole, bounds: Floats, products: Floats, i: Whole) -> None:
    """Fill a max-heap with the `size` smallest `bounds[j] + products[j]`, j != i."""
    filled = 0
    for j in range(len(products)):
        key = bounds[j] + products[j]
        if filled == size:
            if key < keys[0] and j != i:
                keys[0], ids[0] = key, j
                _sift_down(keys, ids, size)
        elif j != i:
            at = filled
            filled += 1
            while at > 0 and keys[(at - 1) // 2] < key:
                keys[at], ids[at] = keys[(at - 1) // 2], ids[(at - 1) // 2]
                at = (at - 1) // 2
            keys[at], ids[at] = key, j


@kernel
def select(
    points: Floats, product: Floats, bounds: Floats, slack: float, rows: Longs, k: Whole, spare: Whole,
    ordered: bool, scale: float, result: Ints, verified: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Neighbours of `rows` from lower bounds `bounds[j] + product[r, j]` on squared distances; proven or not.

    An upper bound is the lower one plus 2 `slack` times both norms. Where the upper bounds of the k best lie
    below the lower bound of the next, they are the neighbours, as a set; else, or where their order is
    wanted, `spare` more candidates are ranked by exact distance.
    """
    count = points.shape[0]
    small = min(k + 1, count - 1)
    large = min(k + spare, count - 1)
    keys = np.empty(large, dtype=product.dtype)
    ids = np.empty(large, dtype=np.int32)
    best = np.empty(k, dtype=np.float64)
    best_ids = np.empty(k, dtype=np.int32)
    for r in range(len(rows)):
        i = rows[r]
        if not ordered and small > k:
            _lowest_keys(keys, ids, small, bounds, product[r], i)
            reach = -np.inf
            for c in range(1, small):
                upper = np.float64(keys[c]) + 2.0 * slack * (
                    np.float64(bounds[i]) + np.float64(bounds[ids[c]])
                )
                reach = max(reach, upper)
            if reach < keys[0] - UNDERFLOW:
                for c in range(k):
                    result[i, c] = ids[c + 1]
                verified[r] = True
                continue
        _lowest_keys(keys, ids, large, bounds, product[r], i)
        found = ZERO
        for c in range(large):
            distance = squared_distance(points, i, ids[c])
            found = _insert_nearest(best, best_ids, found, k, distance, ids[c])
        for c in range(k):
            result[i, c] = best_ids[c]
        outside = np.float64(keys[0]) + np.float64(bounds[i])
        exact = best[k - 1] * scale * scale
        verified[r] = large == count - 1 or outside > exact * (1.0 + 1e-9) + UNDERFLOW


@kernel
def brute_force(points: Floats, rows: Longs, k: Whole, result: Ints) -> None:
    """Exact neighbours of `rows` by all distances."""
    best = np.empty(k, dtype=np.float64)
    best_ids = np.empty(k, dtype=np.int32)
    for i in rows:
        found = ZERO
        for j in range(points.shape[0]):
            if j != i:
                found = _insert_nearest(best, best_ids, found, k, squared_distance(points, i, j), j)
        for c in range(k):
            result[i, c] = best_ids[c]


@kernel
def symmetrise(neighbours: Ints) -> tuple[Longs, Ints]:
    """Sorted adjacency of the union of a neighbour table [N, k] with its transpose."""
    count, k = neighbours.shape
    sizes = np.zeros(count, dtype=np.int64)
    for i in range(count):
        sizes[i] += k
        for c in range(k):
            sizes[neighbours[i, c]] += 1
    starts = np.zeros(count + 1, dtype=np.int64)
    fill = np.zeros(count, dtype=np.int64)
    again = np.zeros(count, dtype=np.int64)
    for i in range(count):
        fill[i] = again[i] = starts[i]
        starts[i + 1] = starts[i] + sizes[i]
    # `raw` lists both directions of every pair; going through it once more by ascending i and handing i to
    # each of its neighbours leaves every list sorted, with repeats side by side.
    raw = np.empty(starts[-1], dtype=np.int32)
    for i in range(count):
        for c in range(k):
            j = neighbours[i, c]
            raw[fill[i]] = j
            fill[i] += 1
            raw[fill[j]] = i
            fill[j] += 1
    transposed = np.empty(starts[-1], dtype=np.int32)
    for i in range(count):
        for at in range(starts[i], starts[i + 1]):
            j = raw[at]
            transposed[again[j]] = i
            again[j] += 1
    indptr = np.zeros(count + 1, dtype=np.int64)
    indices = np.empty(starts[-1], dtype=np.int32)
    top = 0
    for i in range(count):
        last = -1
        for at in range(starts[i], starts[i + 1]):
            j = transposed[at]
            if j != last:
                indices[top] = j
                top += 1
                last = j
        indptr[i + 1] = top
    return indptr, indices[:top].copy()
