"""What hangs together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from topovlm.linked import components


@given(st.lists(st.sets(st.integers(0, 12), max_size=3), max_size=25))
def test_components_are_those_of_the_graph(links: list[set[int]]) -> None:
    """As scipy finds them in the graph of items and links; each named by its first item."""
    found = components([[str(link) for link in held] for held in links])
    size = len(links)
    edges = [(item, size + link) for item, held in enumerate(links) for link in held]
    rows, columns = [edge[0] for edge in edges], [edge[1] for edge in edges]
    graph = coo_matrix(([1] * len(edges), (rows, columns)), shape=(size + 13, size + 13))
    labels = connected_components(graph, directed=False)[1][:size].tolist()
    assert found == [labels.index(label) for label in labels]
