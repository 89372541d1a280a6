from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.topology.strategies import cases
from topovlm.errors import InputError
from topovlm.topology.complexes import Graph, knn_graph, nearest_neighbours


def sorted_distances(cloud: np.ndarray, k: int) -> np.ndarray:
    """Neighbours by full sort of float64 distances, ties by index."""
    wide = cloud.astype(np.float64)
    squares = ((wide[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    return np.argsort(squares, axis=1, kind="stable")[:, :k]


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(3, 24), st.integers(1, 6)), elements=st.integers(-3, 3)),
    st.data(),
)
@cases(80)
def test_ties_and_repeated_points_go_by_index(cloud, data):
    """On integer points, with exact and often tied distances, neighbours are those of a stable sort."""
    k = data.draw(st.integers(1, len(cloud) - 1))
    np.testing.assert_array_equal(nearest_neighbours(cloud, k), sorted_distances(cloud, k))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1500.0, 60000.0])
def test_massive_coordinates_do_not_change_neighbours(dtype, offset):
    """Two coordinates hundreds of times larger than the rest leave the neighbours exact."""
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(300, 48))
    cloud[:, [5, 17]] += offset
    cloud = cloud.astype(dtype)
    np.testing.assert_array_equal(nearest_neighbours(cloud, 15), sorted_distances(cloud, 15))


@pytest.mark.parametrize("scale", [1e-120, 1e-30, 1e30, 1e120])
def test_neighbours_do_not_depend_on_scale(scale):
    """Very small and very large clouds: no underflow, no overflow."""
    cloud = np.random.default_rng(1).normal(size=(120, 7)) * scale
    expected = sorted_distances(cloud / scale, 6)
    np.testing.assert_array_equal(nearest_neighbours(cloud, 6), expected)


def test_one_far_point_does_not_spoil_the_others():
    """A single outlier of norm 1e6 leaves the neighbours of a tight cluster exact."""
    rng = np.random.default_rng(2)
    cloud = rng.normal(size=(200, 16)).astype(np.float32) * 1e-3
    cloud[7] += 1e6
    np.testing.assert_array_equal(nearest_neighbours(cloud, 9), sorted_distances(cloud, 9))


def test_blocks_do_not_change_neighbours(monkeypatch):
    """The distance matrix taken in many blocks gives the same neighbours as in one."""
    cloud = np.random.default_rng(3).normal(size=(257, 20)).astype(np.float32)
    whole = nearest_neighbours(cloud, 11)
    monkeypatch.setattr("topovlm.topology.complexes.BLOCK_ELEMENTS", 1000)
    np.testing.assert_array_equal(nearest_neighbours(cloud, 11), whole)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 20), st.integers(1, 3)), elements=st.integers(0, 4)),
    st.data(),
)
@cases(60)
def test_graph_is_the_union_of_neighbour_relations(cloud, data):
    """u ~ v exactly where one is among the neighbours of the other; adjacency is sorted and symmetric."""
    k = data.draw(st.integers(1, len(cloud) - 1))
    graph = knn_graph(cloud, k)
    table = nearest_neighbours(cloud, k)
    expected = {(min(i, j), max(i, j)) for i, row in enumerate(table.tolist()) for j in row}
    assert {tuple(edge) for edge in graph.edges().tolist()} == expected
    assert graph.edge_count == len(expected)
    for v in range(graph.vertices):
        row = graph.indices[graph.indptr[v] : graph.indptr[v + 1]]
        assert (np.diff(row) > 0).all()
        assert v not in row


def test_graph_from_edges_drops_loops_and_repeats():
    """Pairs in any order, repeated or looped, give one simple graph."""
    graph = Graph.from_edges(4, [(2, 1), (1, 2), (3, 3), (0, 3)])
    assert graph.edges().tolist() == [[0, 3], [1, 2]]
    assert Graph.from_edges(0, []).edge_count == 0


@pytest.mark.parametrize("edges", [[(0, 4)], [(-1, 2)]])
def test_edge_to_no_vertex_is_refused(edges):
    """An edge names existing vertices."""
    with pytest.raises(InputError, match="numbered 0 to 3"):
        Graph.from_edges(4, edges)
