"""The barcode of a sequence of layers: clouds or graphs in, exact bars out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.topology.barcode import Barcode
from topovlm.topology.complexes import Graph, check_cloud, knn_graph
from topovlm.travel.limits import usable_cores

__all__ = ["Barcode", "Graph", "layer_graphs", "warm_up", "zigzag_barcode"]

Layers = Iterable[np.ndarray] | np.ndarray | Iterable[Graph]
FAST_DIMS = 1
LARGEST_DIM = 7


def zigzag_barcode(
    layers: Layers, k: int = 15, max_homology_dim: int = 1, *, threads: int | None = None
) -> Barcode:
    """Exact zigzag barcode over Z/2 of the layers' clique complexes and their successive intersections.

    `layers`: clouds [samples, width], one per layer, same samples in the same order (widths may differ), or
    one array [layers, samples, width], or ready graphs on the same vertices. An iterator is read once, a few
    layers at a time. Every sample is a vertex of every complex. `k`: neighbours per sample; unused for
    graphs.

    Dimensions 0 and 1 take the fast engine; higher ones list every simplex and are slow: minutes from a few
    hundred samples on. `threads` (all processors by default) never changes the result. Raises InputError for
    anything that cannot be a sequence of layers.
    """
    from threadpoolctl import threadpool_limits

    from topovlm.topology.engine import ZigzagStream

    if isinstance(max_homology_dim, bool) or max_homology_dim not in range(LARGEST_DIM + 1):
        raise InputError(explain("max_homology_dim", max_homology_dim, f"a whole number, 0 to {LARGEST_DIM}"))
    workers = usable_cores() if threads is None else threads
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(explain("threads", threads, "a whole number from 1 up"))
    pool = ThreadPoolExecutor(workers - 1) if workers > 1 else None
    kept: list[Graph] = []
    try:
        stream = ZigzagStream(min(max_homology_dim, FAST_DIMS), pool, workers)
        # Layers run side by side: threads inside one matrix product would only stand in each other's way.
        with threadpool_limits(limits=1, user_api="blas") if pool else nullcontext():
            for graph in _graphs(layers, k, pool, workers):
                stream.push(graph)
                if max_homology_dim > FAST_DIMS:
                    kept.append(graph)
            barcode = stream.barcode()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    if not kept:
        return barcode
    from topovlm.topology.plain import plain_barcode

    high = plain_barcode(kept, range(FAST_DIMS + 1, max_homology_dim + 1))
    return Barcode.from_rows(np.concatenate([barcode.bars, high.bars]), barcode.layers, max_homology_dim)


def layer_graphs(layers: Layers, k: int = 15) -> list[Graph]:
    """One graph per layer, all on the same vertices; clouds become k-nearest-neighbour graphs."""
    return list(_graphs(layers, k, None, 1))


def warm_up() -> float:
    """Compile the kernels, or load them from their cache; returns the seconds that it took."""
    start = time.perf_counter()
    for dtype in (np.float32, np.float64):
        corners = np.eye(4, dtype=dtype)
        zigzag_barcode([corners, corners[:, ::-1], corners[::-1]], k=2, threads=1)
    return time.perf_counter() - start


def _graphs(layers: Layers, k: int, pool: ThreadPoolExecutor | None, workers: int) -> Iterator[Graph]:
    """Graphs of the layers in order, a few computed ahead by the pool."""
    pending: deque[tuple[np.ndarray, Future[Graph] | None]] = deque()
    vertices, graphs, at = -1, False, -1
    for at, item in enumerate(layers):
        if at == 0:
            graphs = isinstance(item, Graph)
        if isinstance(item, Graph) != graphs:
            kind = type(item).__name__
            raise InputError(explain(f"layer {at}", kind, "the layers are all graphs or all clouds"))
        if isinstance(item, Graph):
            if at and item.vertices != vertices:
                rule = f"every layer has the same vertices, the first has {vertices}"
                raise InputError(explain(f"layer {at} vertices", item.vertices, rule))
            vertices = item.vertices
            yield item
            continue
        cloud = check_cloud(item, k, at, vertices if at else None)
        vertices = len(cloud)
        pending.append((cloud, pool.submit(knn_graph, cloud, k) if pool else None))
        if len(pending) > (workers if pool else 0):
            yield _graph(*pending.popleft(), k)
    while pending:
        yield _graph(*pending.popleft(), k)
    if at < 0:
        raise InputError(explain("layers", 0, "a zigzag needs at least one layer"))


def _graph(cloud: np.ndarray, future: Future[Graph] | None, k: int) -> Graph:
    return knn_graph(cloud, k) if future is None or future.cancel() else future.result()
