"""The fast engine: layers in, one at a time, H0 and H1 bars out.

Each layer is prepared on its own, in a thread: intersection with the layer before, annotation of both, maps.
The decomposition then takes the layers in order. At most a few layers are alive at any time.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from topovlm.topology import annotation, cliques
from topovlm.topology.barcode import Barcode
from topovlm.topology.complexes import Graph
from topovlm.topology.jit import Whole
from topovlm.topology.quiver import Columns, Decomposition

LAYERS_AHEAD = 2  # prepared per thread before the decomposition catches up


@dataclass(frozen=True)
class _Layer:
    """A layer's complex, annotated by way of its intersection with the layer before."""

    order: np.ndarray
    rank: np.ndarray
    first: np.ndarray
    earlier: np.ndarray
    tree: np.ndarray
    vectors: np.ndarray
    symbols: np.ndarray
    symbol_count: Whole
    pool: np.ndarray
    basis: np.ndarray
    components: np.ndarray
    component_count: int
    shared_generators: np.ndarray
    shared_components: np.ndarray
    shared_component_count: int

    def h1_into_layer(self) -> Columns:
        """H1 of the intersection -> H1 of this layer."""
        return annotation.normal_forms(
            self.shared_generators, self.symbols, self.pool, self.basis, self.symbol_count
        )

    def h1_into(self, other: _Layer) -> Columns:
        """H1 of the intersection -> H1 of the layer before."""
        own = (self.shared_generators, self.symbols[0], self.first, self.earlier, self.tree, self.order)
        theirs = (other.first, other.earlier, other.rank, other.vectors)
        target = (other.symbols, other.pool, other.basis, other.symbol_count)
        return annotation.cycle_classes(*own, *theirs, *target)

    def h0_into(self, other: _Layer) -> Columns:
        """H0 of the intersection -> H0 of this layer or the layer before."""
        size = self.shared_component_count
        places = cliques.component_map(self.shared_components, size, other.components)
        return np.arange(size + 1, dtype=np.int64), places


def _prepare(before: Graph | None, graph: Graph) -> _Layer:
    if before is None:
        flags = np.zeros(len(graph.indices), dtype=np.uint8)
    else:
        flags = cliques.shared_edges(graph.indptr, graph.indices, before.indptr, before.indices)
    order = cliques.search_order(graph.indptr, graph.indices, flags, 0 if before is None else 1)
    first, earlier, shared, rank = cliques.orient(graph.indptr, graph.indices, flags, order)
    begin, rest, both = cliques.triangles(first, earlier, shared)
    parent = np.arange(graph.vertices, dtype=np.int32)
    tree = np.full(graph.vertices, -1, dtype=np.int32)
    vectors = np.full(len(earlier), annotation.UNKNOWN, dtype=np.int64)
    symbols = np.full((2, len(earlier) + 1), annotation.UNKNOWN, dtype=np.int64)
    graph_part = (first, earlier, shared)
    pool = np.empty(len(earlier) + 16, dtype=np.int32)

    pool, top, count = annotation.annotate(
        1, *graph_part, begin[1], both, parent, tree, vectors, symbols, pool, 0, 0
    )
    shared_generators = annotation.live_symbols(symbols[1], count)
    shared_components, shared_component_count = cliques.component_labels(parent, rank)
    pool, top, count = annotation.annotate(
        0, *graph_part, begin[0], rest, parent, tree, vectors, symbols, pool, top, count
    )
    components, component_count = cliques.component_labels(parent, rank)
    return _Layer(
        order=order,
        rank=rank,
        first=first,
        earlier=earlier,
        tree=tree,
        vectors=vectors,
        symbols=symbols[:, :count].copy(),
        symbol_count=count,
        pool=pool,
        basis=annotation.live_symbols(symbols[1], count),
        components=components,
        component_count=component_count,
        shared_generators=shared_generators,
        shared_components=shared_components,
        shared_component_count=shared_component_count,
    )


class ZigzagStream:
    """Barcode in homology dimensions 0 and 1 of graphs that arrive one by one.

    `push` every layer's graph (same vertices), then ask for `barcode()`. With a pool, layers are prepared by
    its threads; the result does not depend on their number. Use one stream from one thread.
    """

    def __init__(self, max_homology_dim: int = 1, pool: ThreadPoolExecutor | None = None, threads: int = 1):
        self._dims = max_homology_dim
        self._pool = pool
        self._ahead = LAYERS_AHEAD * threads
        self._pending: deque[tuple[Graph | None, Graph, Future[_Layer] | None]] = deque()
        self._last_graph: Graph | None = None
        self._last: _Layer | None = None
        self._parts: list[Decomposition] = []
        self.layers = 0

    def push(self, graph: Graph) -> None:
        """Append one layer."""
        before, self._last_graph = self._last_graph, graph
        future = self._pool.submit(_prepare, before, graph) if self._pool else None
        self._pending.append((before, graph, future))
        while len(self._pending) > (self._ahead if self._pool else 0):
            self._take()

    def barcode(self) -> Barcode:
        """The barcode of all layers pushed so far; the stream is used up."""
        while self._pending:
            self._take()
        rows = []
        for dim, part in enumerate(self._parts):
            bars = part.finish(2 * self.layers - 1)
            rows.append(np.concatenate([np.full((len(bars), 1), dim), bars], axis=1))
        return Barcode.from_rows(np.concatenate(rows), self.layers, self._dims)

    def _take(self) -> None:
        before, graph, future = self._pending.popleft()
        # A layer that no thread has begun yet is prepared here: the thread that waits works too.
        layer = _prepare(before, graph) if future is None or future.cancel() else future.result()
        last, index = self._last, 2 * self.layers - 1
        if last is None:
            self._parts = [Decomposition.start(layer.component_count)]
            if self._dims >= 1:
                self._parts.append(Decomposition.start(len(layer.basis)))
        else:
            self._parts[0].advance(layer.h0_into(last), layer.h0_into(layer), layer.component_count, index)
            if self._dims >= 1:
                self._parts[1].advance(layer.h1_into(last), layer.h1_into_layer(), len(layer.basis), index)
        self._last = layer
        self.layers += 1
