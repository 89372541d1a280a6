"""Barcodes by other means, sharing no code with the package: dionysus, and ranks from the definition.

A layer is (vertices, set of edges (u, v) with u < v); bars are sorted lists of (dimension, birth, death).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

Layer = tuple[int, set[tuple[int, int]]]
Bars = list[tuple[int, int, int]]
Chain = int  # bit set over the simplices of one dimension


def cliques(layer: Layer, largest: int) -> list[list[tuple[int, ...]]]:
    """Cliques with 1, 2, ..., `largest` vertices, grown by one vertex at a time."""
    vertices, edges = layer
    later: list[set[int]] = [set() for _ in range(vertices)]
    for u, v in edges:
        later[u].add(v)
    sizes = [[(v,) for v in range(vertices)]]
    for _ in range(largest - 1):
        sizes.append([(*c, u) for c in sizes[-1] for u in sorted(set.intersection(*[later[v] for v in c]))])
    return sizes


def dionysus_bars(layers: Sequence[Layer], max_dim: int = 1) -> Bars:
    """Streaming zigzag persistence of dionysus, simplex by simplex."""
    import dionysus

    simplices, times = zigzag_times(layers, max_dim)
    filtration = dionysus.Filtration([list(simplex) for simplex in simplices])
    diagrams = dionysus.zigzag_homology_persistence(filtration, times)[1]
    end = 2 * len(layers) - 1
    found = [
        (dim, int(bar.birth), int(min(bar.death, end)))
        for dim, diagram in enumerate(diagrams)
        for bar in diagram
        if dim <= max_dim
    ]
    return sorted(bar for bar in found if bar[1] < bar[2])


def zigzag_times(layers: Sequence[Layer], max_dim: int) -> tuple[list[tuple[int, ...]], list[list[float]]]:
    """All simplices, faces first, and for each the indices at which it comes, goes, comes again..."""
    presence: dict[tuple[int, ...], list[int]] = {}
    for at, layer in enumerate(layers):
        for level in cliques(layer, max_dim + 2):
            for simplex in level:
                presence.setdefault(simplex, []).append(at)
    simplices = sorted(presence, key=lambda simplex: (len(simplex), simplex))
    times = []
    for simplex in simplices:
        changes: list[float] = []
        for at in presence[simplex]:
            if at - 1 not in presence[simplex]:
                changes.append(2.0 * at)
            if at + 1 not in presence[simplex] and at + 1 < len(layers):
                changes.append(2.0 * at + 1)
        times.append(changes)
    return simplices, times


class Span:
    """A subspace over Z/2 by elimination; vectors are integers."""

    def __init__(self, vectors: Sequence[Chain] = ()):
        self.pivots: dict[int, Chain] = {}
        for vector in vectors:
            self.add(vector)

    def reduce(self, vector: Chain) -> Chain:
        while vector and vector.bit_length() in self.pivots:
            vector ^= self.pivots[vector.bit_length()]
        return vector

    def add(self, vector: Chain) -> bool:
        rest = self.reduce(vector)
        if rest:
            self.pivots[rest.bit_length()] = rest
        return rest != 0

    @property
    def dim(self) -> int:
        return len(self.pivots)


def null_space(images: Sequence[Chain]) -> list[Chain]:
    """Combinations of the inputs (bit sets over their numbers) whose images sum to zero: a basis."""
    count, kernel = len(images), []
    span = Span()
    for at, image in enumerate(images):
        # The image in the high bits decides the pivot; the low bits remember the combination.
        joint = span.reduce((image << count) | (1 << at))
        if joint >> count:
            span.pivots[joint.bit_length()] = joint
        elif joint:
            kernel.append(joint)
    return kernel


def boundary_chain(simplex: tuple[int, ...], number: dict[tuple[int, ...], int]) -> Chain:
    chain = 0
    for face in combinations(simplex, len(simplex) - 1):
        chain |= 1 << number[face]
    return chain


def cycles_and_boundaries(
    levels: list[list[tuple[int, ...]]], dim: int, number: dict[tuple[int, ...], int]
) -> tuple[list[Chain], list[Chain]]:
    """A basis of the cycles and generators of the boundaries, as chains over `number`."""
    simplices = levels[dim]
    if dim == 0:
        cycles = [1 << number[s] for s in simplices]
    else:
        faces = {face: at for at, face in enumerate(levels[dim - 1])}
        combos = null_space([boundary_chain(s, faces) for s in simplices])
        cycles = [
            sum(1 << number[simplices[at]] for at in range(len(simplices)) if combo >> at & 1)
            for combo in combos
        ]
    return cycles, [boundary_chain(s, number) for s in levels[dim + 1]]


def rank_bars(layers: Sequence[Layer], max_dim: int = 1) -> Bars:
    """Barcode from the generalised rank of every sub-zigzag: rank of its limit -> its colimit.

    That rank is the number of bars alive over all of [i, j]; inclusion and exclusion gives the copies.
    """
    number = [
        {s: at for at, s in enumerate(combinations(range(layers[0][0]), size))}
        for size in range(1, max_dim + 3)
    ]
    complexes = [cliques(layers[0], max_dim + 2)]
    for (vertices, left), (_, right) in pairwise(layers):
        complexes += [cliques((vertices, left & right), max_dim + 2), cliques((vertices, right), max_dim + 2)]
    bars: Bars = []
    for dim in range(max_dim + 1):
        parts = [cycles_and_boundaries(levels, dim, number[dim]) for levels in complexes]
        bars += [(dim, b, d) for b, d in _bars_from_ranks(parts, len(number[dim]))]
    return sorted(bars)


def _bars_from_ranks(parts: list[tuple[list[Chain], list[Chain]]], width: int) -> list[tuple[int, int]]:
    count = len(parts)
    ranks = {(i, j): _limit_to_colimit(parts, i, j, width) for i in range(count) for j in range(i, count)}

    def rank(i: int, j: int) -> int:
        return ranks.get((i, j), 0) if i >= 0 and j < count else 0

    bars = []
    for i, j in ranks:
        copies = rank(i, j) - rank(i - 1, j) - rank(i, j + 1) + rank(i - 1, j + 1)
        bars += [(i, j + 1)] * copies
    return bars


def _limit_to_colimit(parts: list[tuple[list[Chain], list[Chain]]], i: int, j: int, width: int) -> int:
    """Rank of limit -> colimit over indices i..j, at the level of cycles, one block of `width` bits each.

    Limit: cycles at every index that agree up to a boundary of the layer wherever an intersection meets one.
    Colimit: all cycles, modulo boundaries and z at an intersection = z at its layers.
    """
    arrows = [(a, b) for a in range(i, j + 1) if a % 2 for b in (a - 1, a + 1) if i <= b <= j]
    unknowns = [(at, cycle) for at in range(i, j + 1) for cycle in parts[at][0]]
    slack = [(arrow, chain) for arrow, (_, b) in enumerate(arrows) for chain in parts[b][1]]
    images = []
    for at, cycle in unknowns:
        image = 0
        for arrow, (a, b) in enumerate(arrows):
            if at in (a, b):
                image ^= cycle << arrow * width
        images.append(image)
    images += [chain << arrow * width for arrow, chain in slack]
    limit = null_space(images)

    relations = [chain << (at - i) * width for at in range(i, j + 1) for chain in parts[at][1]]
    relations += [
        (cycle << (a - i) * width) ^ (cycle << (b - i) * width) for a, b in arrows for cycle in parts[a][0]
    ]
    span = Span(relations)
    before = span.dim
    for combo in limit:
        vector = 0
        for at, (index, cycle) in enumerate(unknowns):
            if index == i and combo >> at & 1:
                vector ^= cycle
        span.add(vector)
    return span.dim - before
