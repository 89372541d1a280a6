"""From point clouds to graphs: exact Euclidean nearest neighbours, symmetrised by union.

The clique complex of such a graph is never stored: the engine reads triangles off the sorted adjacency.
Neighbours are exact in this sense: they are the k smallest of the float64 squared distances, summed
coordinate by coordinate, ties broken by the smaller index. A matrix product proposes candidates and carries
a rigorous error bound; rows for which the bound cannot exclude the rest are redone in float64, then by brute
force. Plain float32 distances are wrong on hidden states: a few coordinates hold values hundreds of times
larger than the others, so each cloud is centred and scaled first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topovlm.errors import InputError, explain

BLOCK_ELEMENTS = 1 << 22  # entries of one block of the distance matrix: 16 MiB in float32
SPARE_CANDIDATES = 8
LARGEST_SPREAD = 1e150


@dataclass(frozen=True)
class Graph:
    """An undirected graph on vertices 0..vertices-1, as sorted adjacency.

    `indptr` is int64 [vertices + 1]; `indices` int32 [2 E]: the neighbours of v, ascending, without v itself,
    are `indices[indptr[v]:indptr[v + 1]]`. Build it with `from_edges` or `from_neighbours`.
    """

    vertices: int
    indptr: np.ndarray
    indices: np.ndarray

    @property
    def edge_count(self) -> int:
        return len(self.indices) // 2

    def edges(self) -> np.ndarray:
        """Edges as int64 [E, 2], u < v, in lexicographic order."""
        rows = np.repeat(np.arange(self.vertices), np.diff(self.indptr))
        keep = rows < self.indices
        return np.stack([rows[keep], self.indices[keep]], axis=1).astype(np.int64)

    @classmethod
    def from_edges(cls, vertices: int, edges: np.ndarray | Sequence[Sequence[int]]) -> Graph:
        """Graph from pairs in any order; loops and repeated pairs are dropped.

        Raises InputError where a pair names a vertex that does not exist.
        """
        pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        if vertices < 0:
            raise InputError(explain("vertices", vertices, "a graph has at least 0 vertices"))
        if len(pairs) and (pairs.min() < 0 or pairs.max() >= vertices):
            worst = pairs[(pairs.min(axis=1) < 0) | (pairs.max(axis=1) >= vertices)][0].tolist()
            raise InputError(explain("edge", worst, f"vertices are numbered 0 to {vertices - 1}"))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        both = np.concatenate([pairs, pairs[:, ::-1]])
        codes = np.unique(both[:, 0] * max(vertices, 1) + both[:, 1])
        rows, columns = np.divmod(codes, max(vertices, 1))
        indptr = np.zeros(vertices + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=vertices), out=indptr[1:])
        return cls(vertices, indptr, columns.astype(np.int32))

    @classmethod
    def from_neighbours(cls, neighbours: np.ndarray) -> Graph:
        """Symmetrise a neighbour table [N, k] by union: u ~ v where either is a neighbour of the other."""
        from topovlm.topology.neighbours import symmetrise

        indptr, indices = symmetrise(np.ascontiguousarray(neighbours, dtype=np.int32))
        return cls(len(neighbours), indptr, indices)


def check_cloud(cloud: object, k: int, layer: int = 0, points: int | None = None) -> np.ndarray:
    """Return `cloud` as a C-contiguous float32 or float64 array [N, d], or raise InputError."""
    field = f"layer {layer}"
    try:
        array = np.asarray(cloud)
    except ValueError as error:
        raise InputError(explain(field, "ragged", "a layer is one array [samples, width]")) from error
    if array.ndim != 2 or array.dtype == object:
        raise InputError(explain(field, array.shape, "a layer is one array [samples, width]"))
    if array.dtype.kind not in "fiub":
        raise InputError(explain(field, str(array.dtype), "a layer holds real numbers"))
    if points is not None and len(array) != points:
        rule = f"every layer holds the same samples, the first has {points}"
        raise InputError(explain(f"{field} samples", len(array), rule))
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(explain("k", k, "the number of neighbours is a whole number from 1 up"))
    if len(array) <= k:
        rule = f"k = {k} neighbours need more than {k} samples"
        raise InputError(explain("samples", len(array), rule, "Give more samples or a smaller k."))
    if array.shape[1] == 0:
        raise InputError(explain(f"{field} width", 0, "a layer has at least one coordinate"))
    wide = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    array = np.ascontiguousarray(array, dtype=wide)
    finite = np.isfinite(array.sum(dtype=np.float64)) or np.isfinite(array).all()
    if not finite:
        sample, coordinate = np.argwhere(~np.isfinite(array))[0].tolist()
        value = float(array[sample, coordinate])
        where = f"{field}, sample {sample}, coordinate {coordinate}"
        raise InputError(explain(where, value, "hidden states must be finite", "Look for overflow in fp16."))
    return array


def nearest_neighbours(cloud: np.ndarray, k: int, *, ordered: bool = True) -> np.ndarray:
    """The k nearest other points of every point, ties by index: int32 [N, k].

    Nearest first, or in any order where `ordered` is off (faster). A point is never its own neighbour; a
    repeated point is a neighbour at distance 0 like any other.
    """
    from topovlm.topology import neighbours

    points = check_cloud(cloud, k)
    result = np.empty((len(points), k), dtype=np.int32)
    rows = np.arange(len(points))
    for precision in (np.float32, np.float64):
        rows = _propose_and_verify(points, rows, k, ordered, precision, result)
        if len(rows) == 0:
            return result
    neighbours.brute_force(points, rows, k, result)
    return result


def knn_graph(cloud: np.ndarray, k: int) -> Graph:
    """Graph of the k nearest neighbours of every point, symmetrised by union."""
    return Graph.from_neighbours(nearest_neighbours(cloud, k, ordered=False))


def _propose_and_verify(  # noqa: PLR0917
    points: np.ndarray,
    rows: np.ndarray,
    k: int,
    ordered: bool,
    precision: type[np.floating],
    result: np.ndarray,
) -> np.ndarray:
    """Fill `result[rows]` where a product in `precision` proves the neighbours; return the other rows.

    With x, y centred and rounded to the unit u of `precision`, the computed |x|^2 + |y|^2 - 2 x.y differs
    from the true squared distance by at most (d + 32) u (|x|^2 + |y|^2): d from the dot product (Higham,
    Accuracy and Stability, section 3.1, with 2 |x| |y| <= |x|^2 + |y|^2), the rest covers the roundings of
    input and sums. Subtracting it gives a lower bound that ranks the candidates.
    """
    from topovlm.topology import neighbours

    count, width = points.shape
    work, squares = np.empty((count, width), dtype=precision), np.empty(count)
    scale = neighbours.centre(points, work, squares)
    if not scale * LARGEST_SPREAD > 1.0:
        raise InputError(
            explain("largest coordinate", float(np.abs(points).max()), "distances overflow float64")
        )
    slack = (width + 32) * float(np.finfo(precision).eps)
    bounds = ((1.0 - slack) * squares).astype(precision)
    spare = max(SPARE_CANDIDATES, k // 2)
    block = max(1, BLOCK_ELEMENTS // count)
    verified = np.zeros(len(rows), dtype=np.bool_)
    whole = len(rows) == count
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        left = (work[start : start + block] if whole else work[part]) * work.dtype.type(-2.0)
        product = left @ work.T
        done = verified[start : start + block]
        neighbours.select(points, product, bounds, slack, part, k, spare, ordered, scale, result, done)
    return rows[~verified]
