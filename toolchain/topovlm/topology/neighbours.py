# ruff: noqa: PLR0917 - compiled kernels take their arrays one by one
"""Compiled kernels behind `complexes`: candidate selection, exact re-ranking, symmetrisation."""

from __future__ import annotations

import numpy as np

from topovlm.topology.jit import kernel

# Scaled clouds lie in the unit box; smaller distances are left to the exact path, where nothing underflows.
UNDERFLOW = 1e-30


@kernel
def squared_distance(points, i, j):
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
def _sift_down(keys, ids, size):
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
def _insert_nearest(keys, ids, size, limit, key, idx):
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
def select(points, product, bounds, rows, candidates, k, scale, result, verified):
    """Candidates per row from lower bounds `bounds[j] + product[r, j]`, re-ranked exactly."""
    count = points.shape[0]
    keys = np.empty(candidates, dtype=product.dtype)
    ids = np.empty(candidates, dtype=np.int32)
    best = np.empty(k, dtype=np.float64)
    best_ids = np.empty(k, dtype=np.int32)
    unit = scale * scale
    for r in range(len(rows)):
        i = rows[r]
        size = 0
        for j in range(count):
            key = bounds[j] + product[r, j]
            if size == candidates:
                if key < keys[0] and j != i:
                    keys[0], ids[0] = key, j
                    _sift_down(keys, ids, size)
            elif j != i:
                at = size
                size += 1
                while at > 0 and keys[(at - 1) // 2] < key:
                    keys[at], ids[at] = keys[(at - 1) // 2], ids[(at - 1) // 2]
                    at = (at - 1) // 2
                keys[at], ids[at] = key, j
        found = 0
        for c in range(size):
            distance = squared_distance(points, i, ids[c])
            found = _insert_nearest(best, best_ids, found, k, distance, ids[c])
        for c in range(k):
            result[i, c] = best_ids[c]
        outside = np.float64(keys[0]) + np.float64(bounds[i])
        exact = best[k - 1] * unit
        verified[r] = size == count - 1 or outside > exact * (1.0 + 1e-9) + UNDERFLOW


@kernel
def brute_force(points, rows, k, result):
    """Exact neighbours of `rows` by all distances."""
    best = np.empty(k, dtype=np.float64)
    best_ids = np.empty(k, dtype=np.int32)
    for i in rows:
        found = 0
        for j in range(points.shape[0]):
            if j != i:
                found = _insert_nearest(best, best_ids, found, k, squared_distance(points, i, j), j)
        for c in range(k):
            result[i, c] = best_ids[c]


@kernel
def symmetrise(neighbours):
    """Sorted adjacency of the union of a neighbour table [N, k] with its transpose."""
    count, k = neighbours.shape
    sizes = np.zeros(count + 1, dtype=np.int64)
    for i in range(count):
        sizes[i + 1] += k
        for c in range(k):
            sizes[neighbours[i, c] + 1] += 1
    starts = np.cumsum(sizes)
    fill = starts[:-1].copy()
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
    fill = starts[:-1].copy()
    for i in range(count):
        for at in range(starts[i], starts[i + 1]):
            j = raw[at]
            transposed[fill[j]] = i
            fill[j] += 1
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
