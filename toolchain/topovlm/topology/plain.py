"""The barcode by the book, for any homology dimension: slow, short, and the yardstick of the fast engine.

Per complex: all simplices, one column reduction over Z/2, a basis of cycles. Per inclusion: the matrix of
the induced map. Then the interval decomposition of the zigzag of vector spaces (Carlsson and de Silva,
Zigzag Persistence, 2010). Chains are Python integers used as bit sets; simplices are numbered once for all
layers, so that a chain of an intersection is the same integer in both of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from topovlm.topology.barcode import Barcode
from topovlm.topology.complexes import Graph

Simplex = tuple[int, ...]


@dataclass(frozen=True)
class _Homology:
    """One homology group: reduced boundaries and essential cycles by pivot; cycles number the basis."""

    boundaries: dict[int, int]
    cycles: dict[int, int]

    @property
    def pivots(self) -> list[int]:
        return sorted(self.cycles)

    def coordinates(self, cycle: int) -> int:
        """The class of a cycle as a bit set over the basis."""
        number = {pivot: at for at, pivot in enumerate(self.pivots)}
        result = 0
        while cycle:
            pivot = cycle.bit_length() - 1
            if pivot in self.boundaries:
                cycle ^= self.boundaries[pivot]
            else:
                cycle ^= self.cycles[pivot]
                result ^= 1 << number[pivot]
        return result


def plain_barcode(graphs: Sequence[Graph], dims: Sequence[int]) -> Barcode:
    """Barcode, in dimensions `dims`, of the clique complexes of `graphs` and successive intersections."""
    max_homology_dim = max(dims)
    rows: list[tuple[int, int, int]] = []
    complexes = [_cliques(graph, max_homology_dim + 2) for graph in graphs]
    zigzag: list[list[set[Simplex]]] = [complexes[0]]
    for left, right in pairwise(complexes):
        zigzag += [[a & b for a, b in zip(left, right, strict=True)], right]
    numbers = [
        {simplex: at for at, simplex in enumerate(sorted(set().union(*[c[size] for c in complexes])))}
        for size in range(max_homology_dim + 2)
    ]
    for dim in dims:
        groups = [_homology(simplices, dim, numbers) for simplices in zigzag]
        rows += [(dim, birth, death) for birth, death in _decompose(groups)]
    return Barcode.from_rows(np.array(rows, dtype=np.int64), len(graphs), max_homology_dim)


def _cliques(graph: Graph, largest: int) -> list[set[Simplex]]:
    """Cliques of `graph` by size: entry s holds the sorted vertex tuples of size s + 1, up to `largest`."""
    later = [
        {int(u) for u in graph.indices[graph.indptr[v] : graph.indptr[v + 1]] if u > v}
        for v in range(graph.vertices)
    ]
    level: list[tuple[Simplex, set[int]]] = [((v,), later[v]) for v in range(graph.vertices)]
    sizes = [{simplex for simplex, _ in level}]
    for _ in range(largest - 1):
        level = [((*simplex, u), common & later[u]) for simplex, common in level for u in common]
        sizes.append({simplex for simplex, _ in level})
    return sizes


def _boundary(simplex: Simplex, number: dict[Simplex, int]) -> int:
    chain = 0
    for at in range(len(simplex)):
        chain ^= 1 << number[simplex[:at] + simplex[at + 1 :]]
    return chain


def _homology(simplices: list[set[Simplex]], dim: int, numbers: list[dict[Simplex, int]]) -> _Homology:
    boundaries: dict[int, int] = {}
    for simplex in sorted(simplices[dim + 1]):
        chain = _boundary(simplex, numbers[dim])
        while chain and chain.bit_length() - 1 in boundaries:
            chain ^= boundaries[chain.bit_length() - 1]
        if chain:
            boundaries[chain.bit_length() - 1] = chain
    cycles: dict[int, int] = {}
    reduced: dict[int, tuple[int, int]] = {}
    for simplex in sorted(simplices[dim]):
        at = numbers[dim][simplex]
        chain, track = (_boundary(simplex, numbers[dim - 1]) if dim else 0), 1 << at
        while chain and chain.bit_length() - 1 in reduced:
            other, other_track = reduced[chain.bit_length() - 1]
            chain, track = chain ^ other, track ^ other_track
        if chain:
            reduced[chain.bit_length() - 1] = (chain, track)
        elif at not in boundaries:
            cycles[at] = track
    return _Homology(boundaries, cycles)


def _decompose(groups: list[_Homology]) -> Iterator[tuple[int, int]]:
    """Intervals of V_0 <- W_0 -> V_1 <- ...: (birth, death) on indices, death exclusive.

    Kept along the way: a basis of the current space, ordered so that its initial segments are the spaces of
    the right filtration, and the birth of each element. A backward arrow reduces columns by highest place: a
    zero column is a kernel element, born now and first in order; an unmatched place dies. A forward arrow
    reduces columns from the left: a zero column dies; the complement of the image is born last.
    """
    order = [1 << at for at in range(len(groups[0].cycles))]
    births = [0] * len(order)
    for index in range(1, len(groups), 2):
        left, middle, right = groups[index - 1 : index + 2]
        columns = [middle.cycles[pivot] for pivot in middle.pivots]
        kernel: list[int] = []
        matched: dict[int, tuple[int, int]] = {}
        solve = _solver(order)
        for column in columns:
            place, image = solve(left.coordinates(column)), right.coordinates(column)
            while place and place.bit_length() - 1 in matched:
                other_place, other_image = matched[place.bit_length() - 1]
                place, image = place ^ other_place, image ^ other_image
            if place:
                matched[place.bit_length() - 1] = (place, image)
            else:
                kernel.append(image)
        yield from ((births[at], index) for at in range(len(order)) if at not in matched)
        images = kernel + [matched[at][1] for at in sorted(matched)]
        births = [index] * len(kernel) + [births[at] for at in sorted(matched)]

        echelon: dict[int, int] = {}
        order, survivors = [], []
        for image, birth in zip(images, births, strict=True):
            rest = image
            while rest and rest.bit_length() - 1 in echelon:
                rest ^= echelon[rest.bit_length() - 1]
            if rest:
                echelon[rest.bit_length() - 1] = rest
                order.append(rest)
                survivors.append(birth)
            else:
                yield birth, index + 1
        fresh = [at for at in range(len(right.cycles)) if at not in echelon]
        order += [1 << at for at in fresh]
        births = survivors + [index + 1] * len(fresh)
    yield from ((birth, len(groups)) for birth in births)


def _solver(order: list[int]) -> Callable[[int], int]:
    """Function giving the coordinates of a vector in a basis with distinct highest bits."""
    place = {vector.bit_length() - 1: at for at, vector in enumerate(order)}

    def solve(vector: int) -> int:
        result = 0
        while vector:
            at = place[vector.bit_length() - 1]
            vector ^= order[at]
            result ^= 1 << at
        return result

    return solve
