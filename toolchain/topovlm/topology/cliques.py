"""Compiled kernels on one layer's graph: overlap with the layer before, vertex order, triangles."""

from __future__ import annotations

import numpy as np

from topovlm.topology.jit import ZERO, Flags, Ints, Longs, Whole, kernel


@kernel
def shared_edges(indptr: Longs, indices: Ints, other_indptr: Longs, other_indices: Ints) -> Flags:
    """Flag per adjacency entry: 1 where the edge is in the other graph too."""
    flags = np.zeros(len(indices), dtype=np.uint8)
    for v in range(len(indptr) - 1):
        at, stop = other_indptr[v], other_indptr[v + 1]
        for here in range(indptr[v], indptr[v + 1]):
            u = indices[here]
            while at < stop and other_indices[at] < u:
                at += 1
            if at < stop and other_indices[at] == u:
                flags[here] = 1
    return flags


@kernel
def search_order(indptr: Longs, indices: Ints, flags: Flags, wanted: Whole) -> Ints:
    """Maximum-cardinality search along the edges whose flag is `wanted`: vertices in order.

    The next vertex has the most visited neighbours; so the visited part of a component is connected.
    """
    count = len(indptr) - 1
    entries = count + len(indices)
    follow = np.empty(entries, dtype=np.int32)
    vertex = np.empty(entries, dtype=np.int32)
    heads = np.full(count + 1, -1, dtype=np.int32)
    weight = np.zeros(count, dtype=np.int32)
    order = np.empty(count, dtype=np.int32)
    top = 0
    for v in range(count - 1, -1, -1):
        vertex[top], follow[top], heads[0] = v, heads[0], top
        top += 1
    highest = 0
    for at in range(count):
        v = -1
        while v < 0:
            while heads[highest] < 0:
                highest -= 1
            entry = heads[highest]
            heads[highest] = follow[entry]
            if weight[vertex[entry]] == highest:
                v = vertex[entry]
        order[at] = v
        weight[v] = -1
        for here in range(indptr[v], indptr[v + 1]):
            u = indices[here]
            if flags[here] == wanted and weight[u] >= 0:
                weight[u] += 1
                vertex[top], follow[top] = u, heads[weight[u]]
                heads[weight[u]] = top
                top += 1
                highest = max(highest, weight[u])
    return order


@kernel
def orient(indptr: Longs, indices: Ints, flags: Flags, order: Ints) -> tuple[Longs, Ints, Flags, Ints]:
    """Edges by their later end, in ranks: first edge per rank [N + 1], earlier end [E], flag [E], rank [N].

    Edges of one later end are sorted by the earlier end.
    """
    count = len(order)
    rank = np.empty(count, dtype=np.int32)
    for at in range(count):
        rank[order[at]] = at
    first = np.zeros(count + 1, dtype=np.int64)
    for v in range(count):
        for here in range(indptr[v], indptr[v + 1]):
            if rank[indices[here]] < rank[v]:
                first[rank[v] + 1] += 1
    fill = np.empty(count, dtype=np.int64)
    for at in range(count):
        fill[at] = first[at]
        first[at + 1] += first[at]
    earlier = np.empty(first[-1], dtype=np.int32)
    shared = np.empty(first[-1], dtype=np.uint8)
    for at in range(count):
        v = order[at]
        for here in range(indptr[v], indptr[v + 1]):
            later = rank[indices[here]]
            if later > at:
                earlier[fill[later]] = at
                shared[fill[later]] = flags[here]
                fill[later] += 1
    return first, earlier, shared, rank


@kernel
def triangles(first: Longs, earlier: Ints, shared: Flags) -> tuple[Longs, Ints, Ints]:
    """Triangles {w < u < v} by their last vertex v; those of shared edges only come apart.

    Returns, for the rest and for the shared ones, the first triangle per rank, int64 [2, N + 1], and the
    edges vu, vw, uw of every triangle, in the leading rows of two int32 arrays [any, 3].
    """
    count = len(first) - 1
    mark = np.full(count, -1, dtype=np.int64)
    base, side = np.empty(count + 1, dtype=np.int64), np.empty(count + 1, dtype=np.int64)
    begin = np.zeros((2, count + 1), dtype=np.int64)
    rest = np.empty((2 * len(earlier) + 16, 3), dtype=np.int32)
    both = np.empty((2 * len(earlier) + 16, 3), dtype=np.int32)
    rest_top = both_top = ZERO
    for v in range(count):
        start = first[v]
        for e in range(start, first[v + 1]):
            room = e - start  # edge e closes at most one triangle with every earlier edge of v
            if rest_top + room > len(rest):
                rest = _larger(rest, rest_top, room)
            if both_top + room > len(both):
                both = _larger(both, both_top, room)
            u = earlier[e]
            found = 0
            for f in range(first[u], first[u + 1]):  # no branch here: whether it closes is a coin toss
                base[found], side[found] = f, mark[earlier[f]]
                found += side[found] >= start
            for at in range(found):
                f, other = base[at], side[at]
                if shared[e] & shared[other] & shared[f]:
                    both[both_top, 0], both[both_top, 1], both[both_top, 2] = e, other, f
                    both_top += 1
                else:
                    rest[rest_top, 0], rest[rest_top, 1], rest[rest_top, 2] = e, other, f
                    rest_top += 1
            mark[u] = e
        begin[0, v + 1], begin[1, v + 1] = rest_top, both_top
    return begin, rest, both


@kernel
def _larger(rows: Ints, used: Whole, room: Whole) -> Ints:
    result = np.empty((2 * len(rows) + room, 3), dtype=np.int32)
    for at in range(used):
        for side in range(3):
            result[at, side] = rows[at, side]
    return result


@kernel
def find(parent: Ints, v: Whole) -> Whole:
    """Root of v in a union-find forest, halving its path."""
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@kernel
def component_labels(parent: Ints, rank: Ints) -> tuple[Ints, int]:
    """Component of every vertex, numbered by first appearance in vertex numbers: int32 [N], and how many."""
    seen = np.full(len(rank), -1, dtype=np.int32)
    labels = np.empty(len(rank), dtype=np.int32)
    size = 0
    for v in range(len(rank)):
        root = find(parent, np.int64(rank[v]))
        if seen[root] < 0:
            seen[root] = size
            size += 1
        labels[v] = seen[root]
    return labels, size


@kernel
def component_map(labels: Ints, size: Whole, other: Ints) -> Ints:
    """For every component its component in a coarser labelling: int32 [size]."""
    result = np.empty(size, dtype=np.int32)
    for v in range(len(labels)):
        result[labels[v]] = other[v]
    return result
