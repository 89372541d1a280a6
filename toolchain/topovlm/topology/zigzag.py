"""The barcode of a sequence of layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.topology.barcode import Barcode
from topovlm.topology.complexes import Graph, check_cloud, knn_graph

__all__ = ["Barcode", "layer_graphs", "zigzag_barcode"]


def zigzag_barcode(
    layers: Sequence[np.ndarray] | np.ndarray | Sequence[Graph], k: int = 15, max_homology_dim: int = 1
) -> Barcode:
    """Exact zigzag barcode over Z/2 of the layers' clique complexes and their successive intersections.

    `layers`: clouds [samples, width], one per layer, same samples in the same order (widths may differ), or
    one array [layers, samples, width], or ready graphs on the same vertices. Every sample is a vertex of
    every complex. `k`: neighbours per sample; not used for graphs. Raises InputError for anything that cannot
    be a sequence of layers.
    """
    from topovlm.topology.plain import plain_barcode

    if isinstance(max_homology_dim, bool) or max_homology_dim not in range(0, 8):
        raise InputError(explain("max_homology_dim", max_homology_dim, "homology dimensions 0 to 7"))
    return plain_barcode(layer_graphs(layers, k), max_homology_dim)


def layer_graphs(layers: Sequence[np.ndarray] | np.ndarray | Sequence[Graph], k: int = 15) -> list[Graph]:
    """One graph per layer, all on the same vertices; clouds become k-nearest-neighbour graphs."""
    items = list(layers)
    if not items:
        raise InputError(explain("layers", 0, "a zigzag needs at least one layer"))
    if any(isinstance(item, Graph) for item in items):
        for at, item in enumerate(items):
            if not isinstance(item, Graph):
                raise InputError(
                    explain(f"layer {at}", type(item).__name__, "layers are all graphs or all clouds")
                )
            if item.vertices != items[0].vertices:
                rule = f"every layer has the same vertices, the first has {items[0].vertices}"
                raise InputError(explain(f"layer {at} vertices", item.vertices, rule))
        return items
    points = len(np.asarray(items[0])) if np.ndim(items[0]) else 0
    clouds = [check_cloud(item, k, at, points) for at, item in enumerate(items)]
    return [knn_graph(cloud, k) for cloud in clouds]
