# ruff: noqa: PLR0912, PLR0917, PLR1714, SIM109 - compiled kernels: arrays one by one, plain comparisons
"""H1 of a clique complex over Z/2 from the graph alone: edge annotations, compiled.

Every edge carries a sparse vector over generator symbols such that the class of a cycle is the sum of the
vectors of its edges (Busaryev, Cabello, Chen, Dey, Wang, Annotating Simplices with a Homology Basis, 2012).
Vertices come in maximum-cardinality order. Vertex v adds the cone over its link among earlier neighbours: in
each component of the link one root edge is a tree edge (vector 0) or a new symbol, a link edge {u, w} gives
A(vw) = A(vu) + A(uw) along a spanning tree, and every other link edge is one relation, which kills its
youngest symbol. These are all the triangles of a clique complex, so the live symbols are a basis of H1.

Two levels share one run: first the intersection with the layer before (level 1), then the rest of the layer
(level 0), whose symbols are younger. The inclusion of the intersection into the layer is then read off: a
symbol goes to itself while it lives, else to what its relation says.

A vector is a run of symbols in a pool, named by a reference: start * 2^24 + length, 0 for the zero vector.
"""

from __future__ import annotations

import numpy as np

from topovlm.topology.cliques import find
from topovlm.topology.jit import NONE, ONE, ZERO, Flags, Ints, Longs, Whole, kernel

UNKNOWN = -1  # reference of an edge not reached yet; relation of a live symbol
LENGTH_BITS = 24
LENGTH_MASK = (1 << LENGTH_BITS) - 1
MANY: Whole = np.int64(-2)


@kernel
def _toggle(parity: Flags, stack: Ints, height: Whole, pool: Ints, ref: Whole) -> Whole:
    """Add a vector to the accumulator and return the new height.

    parity: 0 untouched, 1 in, 2 touched but out; `stack` lists the touched.
    """
    start = ref >> LENGTH_BITS
    for at in range(start, start + (ref & LENGTH_MASK)):
        g = pool[at]
        if parity[g] == 0:
            parity[g] = 1
            stack[height] = g
            height += 1
        else:
            parity[g] = 3 - parity[g]
    return height


@kernel
def _settle(parity: Flags, stack: Ints, height: Whole, pool: Ints, relation: Longs) -> Whole:
    """Replace killed symbols in the accumulator until only live ones are in; return the new height."""
    again = True
    while again:
        again = False
        at = 0
        while at < height:
            g = stack[at]
            if parity[g] == 1 and relation[g] != UNKNOWN:
                parity[g] = 2
                height = _toggle(parity, stack, height, pool, relation[g])
                again = True
            at += 1
    return height


@kernel
def _flush(
    parity: Flags, stack: Ints, height: Whole, pool: Ints, top: Whole, skip: Whole
) -> tuple[Ints, Whole, Whole]:
    """Write the accumulator without `skip` to the end of the pool and clear it: pool, its top, reference."""
    if top + height > len(pool):
        larger = np.empty(2 * len(pool) + height, dtype=np.int32)
        for at in range(top):
            larger[at] = pool[at]
        pool = larger
    start = top
    for at in range(height):
        g = stack[at]
        if parity[g] == 1 and g != skip:
            pool[top] = g
            top += 1
        parity[g] = 0
    return pool, top, (start << LENGTH_BITS) | (top - start) if top > start else 0


@kernel
def _single(ref: Whole, pool: Ints, relation: Longs) -> Whole:
    """The live symbol that a vector is, NONE for the zero vector, MANY where that takes more work."""
    while ref & LENGTH_MASK == 1:
        g = np.int64(pool[ref >> LENGTH_BITS])
        if relation[g] == UNKNOWN:
            return g
        ref = relation[g]
    return NONE if ref == 0 else MANY


@kernel
def _add(
    a: Whole, b: Whole, parity: Flags, stack: Ints, pool: Ints, top: Whole, relation: Longs
) -> tuple[Ints, Whole, Whole]:
    """Sum of two vectors: pool, its top, reference."""
    x, y = _single(a, pool, relation), _single(b, pool, relation)
    if x != MANY and (x == y or x == NONE):
        return pool, top, 0 if x == y else b
    if y == NONE:
        return pool, top, a
    height = _toggle(parity, stack, ZERO, pool, a)
    height = _toggle(parity, stack, height, pool, b)
    height = _settle(parity, stack, height, pool, relation)
    return _flush(parity, stack, height, pool, top, NONE)


@kernel
def _relate(
    a: Whole, b: Whole, c: Whole, parity: Flags, stack: Ints, pool: Ints, top: Whole, relation: Longs
) -> tuple[Ints, Whole]:
    """Impose a + b + c = 0, killing the youngest symbol of what is left of it: pool and its top."""
    x, y, z = _single(a, pool, relation), _single(b, pool, relation), _single(c, pool, relation)
    if x != MANY and y != MANY and z != MANY and (x == y or x == z or y == z):  # most relations
        rest = z if x == y else (y if x == z else x)
        if rest != NONE:
            relation[rest] = 0
        return pool, top
    height = _toggle(parity, stack, ZERO, pool, a)
    height = _toggle(parity, stack, height, pool, b)
    height = _toggle(parity, stack, height, pool, c)
    height = _settle(parity, stack, height, pool, relation)
    youngest = -1
    for at in range(height):
        if parity[stack[at]] == 1:
            youngest = max(youngest, stack[at])
    pool, top, ref = _flush(parity, stack, height, pool, top, youngest)
    if youngest >= 0:
        relation[youngest] = ref
    return pool, top


@kernel
def annotate(
    level: Whole, first: Longs, earlier: Ints, shared: Flags, begin: Longs, sides: Ints,
    parent: Ints, tree: Ints, vectors: Longs, symbols: Longs, pool: Ints, top: Whole, count: Whole,
) -> tuple[Ints, Whole, Whole]:  # fmt: skip
    """Annotate the edges of one level in place; returns the pool, its top and the number of symbols.

    begin [N + 1], sides [T, 3]: triangles of this level by last vertex; `sides` is used up. parent [N]:
    union-find of the components. tree [N]: edge to the parent in the spanning forest of level 1, else -1.
    vectors [E]: reference per edge. symbols [2, E + 1]: edge that created it, reference of its relation.
    """
    origin, relation = symbols[0], symbols[1]
    parity = np.zeros(symbols.shape[1], dtype=np.uint8)
    stack = np.empty(symbols.shape[1], dtype=np.int32)
    for v in range(len(first) - 1):
        candidate = first[v]
        low, high = begin[v], begin[v + 1]
        ready = level == 0  # at level 1 no edge of v has a vector before the first root
        while True:
            while ready and high > low:
                ready = False
                keep = low
                for t in range(low, high):
                    known, other, base = sides[t, 0], sides[t, 1], sides[t, 2]
                    if vectors[known] == UNKNOWN:
                        known, other = other, known
                    a, b, c = vectors[known], vectors[other], vectors[base]
                    if a == UNKNOWN:
                        sides[keep, 0], sides[keep, 1], sides[keep, 2] = known, other, base
                        keep += 1
                    elif b == UNKNOWN:
                        ready = True
                        if a == 0 or c == 0:
                            vectors[other] = a | c
                        else:
                            pool, top, vectors[other] = _add(a, c, parity, stack, pool, top, relation)
                    elif (a ^ b ^ c) == 0 and (a == 0 or b == 0 or c == 0):
                        continue  # zero and twice the same: by far the most
                    else:
                        pool, top = _relate(a, b, c, parity, stack, pool, top, relation)
                high = keep
            while candidate < first[v + 1] and (vectors[candidate] != UNKNOWN or shared[candidate] != level):
                candidate += 1
            if candidate == first[v + 1]:
                break
            root, other_root = find(parent, v), find(parent, np.int64(earlier[candidate]))
            if root != other_root:
                parent[max(root, other_root)] = min(root, other_root)
                vectors[candidate] = 0
                if level == 1:
                    tree[v] = candidate
            else:
                origin[count], relation[count] = candidate, UNKNOWN
                parity[count] = 1
                stack[0] = count
                count += 1
                pool, top, vectors[candidate] = _flush(parity, stack, ONE, pool, top, NONE)
            ready = True
    return pool, top, count


@kernel
def live_symbols(relation: Longs, count: Whole) -> Ints:
    """The live symbols among the first `count`, ascending."""
    live = np.empty(count, dtype=np.int32)
    size = 0
    for g in range(count):
        if relation[g] == UNKNOWN:
            live[size] = g
            size += 1
    return live[:size].copy()


@kernel
def _places(basis: Ints, count: Whole) -> Ints:
    """Place of every symbol in the basis, -1 for the killed."""
    place = np.full(count, -1, dtype=np.int32)
    for at in range(len(basis)):
        place[basis[at]] = at
    return place


@kernel
def normal_forms(
    generators: Ints, symbols: Longs, pool: Ints, basis: Ints, count: Whole
) -> tuple[Longs, Ints]:
    """Each of `generators` in terms of the live symbols `basis`: sparse columns (first, place)."""
    relation = symbols[1]
    place = _places(basis, count)
    parity = np.zeros(count, dtype=np.uint8)
    stack = np.empty(count, dtype=np.int32)
    first = np.zeros(len(generators) + 1, dtype=np.int64)
    places = np.empty(len(generators) + 16, dtype=np.int32)
    top = ZERO
    for at in range(len(generators)):
        parity[generators[at]] = 1
        stack[0] = generators[at]
        height = _settle(parity, stack, ONE, pool, relation)
        places, top, _ = _flush(parity, stack, height, places, top, NONE)
        first[at + 1] = top
    for at in range(top):
        places[at] = place[places[at]]
    return first, places[:top].copy()


@kernel
def _edge(first: Longs, earlier: Ints, a: Whole, b: Whole) -> Whole:
    """Number of the edge between ranks a and b of a graph in which it is known to be."""
    if a < b:
        a, b = b, a
    low: Whole
    low, high = first[a], first[a + 1]
    while high - low > 1:
        middle = (low + high) // 2
        if earlier[middle] <= b:
            low = middle
        else:
            high = middle
    return low


@kernel
def _later_end(first: Longs, e: Whole) -> Whole:
    """The rank whose edges, `first[v]` to `first[v + 1]`, include edge e."""
    low, high = 0, len(first) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if first[middle] <= e:
            low = middle
        else:
            high = middle
    return low


@kernel
def cycle_classes(
    generators: Ints, origin: Longs, own_first: Longs, own_earlier: Ints, tree: Ints, order: Ints,
    first: Longs, earlier: Ints, rank: Ints, vectors: Longs,
    symbols: Longs, pool: Ints, basis: Ints, count: Whole,
) -> tuple[Longs, Ints]:  # fmt: skip
    """Classes, in another complex that contains them, of the fundamental cycles of `generators`.

    The cycle of a symbol is its edge closed by the spanning forest `tree`; the arguments from `first` on
    describe the other complex. Returns sparse columns over its basis: first [n + 1], place [any].
    """
    relation = symbols[1]
    place = _places(basis, count)
    above = np.full(len(order), -1, dtype=np.int32)
    step = np.zeros(len(order), dtype=np.int64)
    v: Whole
    for v in range(len(order)):
        if tree[v] >= 0:
            above[v] = own_earlier[tree[v]]
            step[v] = vectors[_edge(first, earlier, rank[order[v]], rank[order[above[v]]])]
    parity = np.zeros(count, dtype=np.uint8)
    stack = np.empty(count, dtype=np.int32)
    starts = np.zeros(len(generators) + 1, dtype=np.int64)
    places = np.empty(len(generators) + 16, dtype=np.int32)
    top = ZERO
    for at in range(len(generators)):
        e = origin[generators[at]]
        u = own_earlier[e]
        v = _later_end(own_first, e)
        closing = vectors[_edge(first, earlier, rank[order[v]], rank[order[u]])]
        height = _toggle(parity, stack, ZERO, pool, closing)
        while u != v:
            if u > v:
                u, v = v, u
            height = _toggle(parity, stack, height, pool, step[v])
            v = above[v]
        height = _settle(parity, stack, height, pool, relation)
        places, top, _ = _flush(parity, stack, height, places, top, NONE)
        starts[at + 1] = top
    for at in range(top):
        places[at] = place[places[at]]
    return starts, places[:top].copy()
