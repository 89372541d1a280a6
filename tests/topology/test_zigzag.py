from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.strategies import as_graphs, as_layers, cases, layer_sequences, trajectory
from tests.topology.zigzag_oracles import (
    Layer,
    Span,
    boundary_chain,
    cliques,
    cycles_and_boundaries,
    dionysus_bars,
    rank_bars,
)
from topovlm.errors import InputError
from topovlm.topology.plain import plain_barcode
from topovlm.topology.zigzag import Graph, layer_graphs, warm_up, zigzag_barcode


def bars_of(layers: list[Layer], max_dim: int = 1) -> list[tuple[int, int, int]]:
    barcode = zigzag_barcode(as_graphs(layers), max_homology_dim=max_dim, threads=1)
    return [(int(p), int(b), int(d)) for p, b, d in barcode.bars]


def ring(*vertices: int) -> set[tuple[int, int]]:
    return {(min(u, v), max(u, v)) for u, v in pairwise((*vertices, vertices[0]))}


@given(layer_sequences(max_vertices=7, max_layers=4), st.integers(0, 2))
@cases(120)
def test_barcode_equals_ranks_of_limits_to_colimits(layers, max_dim):
    """The bars are those that the definition (generalised ranks) gives, in dimensions 0 to 2."""
    assert bars_of(layers, max_dim) == rank_bars(layers, max_dim)


@given(layer_sequences(max_vertices=14, max_layers=7))
@cases(120)
def test_barcode_equals_dionysus(layers):
    """The bars are those of dionysus' zigzag, where it can be built."""
    pytest.importorskip("dionysus", reason="dionysus is a source-only package that needs a C++ compiler")
    assert bars_of(layers) == dionysus_bars(layers)


@given(layer_sequences(max_vertices=20, max_layers=7))
@cases(150)
def test_fast_engine_equals_plain_path(layers):
    """Annotations and bit rows give what column reduction of every complex gives."""
    graphs = as_graphs(layers)
    fast = zigzag_barcode(graphs, threads=1)
    np.testing.assert_array_equal(fast.bars, plain_barcode(graphs, (0, 1)).bars)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([(0, set())], []),
        ([(0, set()), (0, set())], []),
        ([(1, set()), (1, set())], [(0, 0, 3)]),
        ([(2, set()), (2, {(0, 1)}), (2, set())], [(0, 0, 2), (0, 0, 5), (0, 3, 5)]),
        ([(4, ring(0, 1, 2, 3))] * 3, [(0, 0, 5), (1, 0, 5)]),
        ([(4, ring(0, 1, 2, 3)), (4, set(combinations(range(4), 2)))], [(0, 0, 3), (1, 0, 2)]),
    ],
    ids=["nothing", "nothing-twice", "point", "pair-meets-and-parts", "square-stays", "square-filled"],
)
def test_known_barcodes(layers, expected):
    """Small sequences whose bars can be read off by hand."""
    assert bars_of(layers) == expected


def test_no_shared_edge_ends_every_loop():
    """Layers without a common edge share no H1 class; every component splits at the intersection."""
    layers = [(5, ring(0, 1, 2, 3, 4)), (5, ring(0, 2, 4, 1, 3))]
    bars = bars_of(layers)
    assert [bar for bar in bars if bar[0] == 1] == [(1, 0, 1), (1, 2, 3)]
    assert sorted(bar for bar in bars if bar[0] == 0) == [(0, 0, 3)] + [(0, 1, 2)] * 4


def test_class_survives_without_common_representative():
    """A loop lives over three layers though no cycle of it lies in all: the annulus between two squares."""
    inner, outer = ring(0, 1, 2, 3), ring(4, 5, 6, 7)
    spokes = {(i, i + 4) for i in range(4)} | {(i, (i + 1) % 4 + 4) for i in range(4)}
    layers = [(8, inner), (8, inner | outer | spokes), (8, outer)]
    assert [bar for bar in bars_of(layers) if bar[0] == 1] == [(1, 0, 5)]


def test_threads_never_change_the_result():
    """One, two and five threads give byte-identical bars, from clouds and from graphs."""
    clouds = trajectory(96, 9, 12, seed=3)
    expected = zigzag_barcode(clouds, k=6, threads=1).bars
    for threads in (2, 5, None):
        assert zigzag_barcode(clouds, k=6, threads=threads).bars.tobytes() == expected.tobytes()
        graphs = layer_graphs(clouds, k=6)
        assert zigzag_barcode(iter(graphs), threads=threads).bars.tobytes() == expected.tobytes()


def test_large_layers_obey_euler_and_rank_counts():
    """On larger layers: Betti numbers from independent ranks, and rank H(n) -> H(u) between neighbours."""
    graphs = layer_graphs(trajectory(90, 4, 6, seed=5), k=7)
    barcode = zigzag_barcode(graphs)
    layers = as_layers(graphs)
    between = [(a[0], a[1] & b[1]) for a, b in pairwise(layers)]
    everything = [layer for pair in zip(layers, [*between, (90, set())], strict=True) for layer in pair][:-1]
    for at, (vertices, edges) in enumerate(everything):
        points, pairs, triples = cliques((vertices, edges), 3)
        faces = {pair: i for i, pair in enumerate(pairs)}
        ends = {point: i for i, point in enumerate(points)}
        edge_rank = Span([boundary_chain(pair, ends) for pair in pairs]).dim
        triangle_rank = Span([boundary_chain(triple, faces) for triple in triples]).dim
        assert barcode.betti(0)[at] == vertices - edge_rank
        assert barcode.betti(1)[at] == len(pairs) - edge_rank - triangle_rank
        euler = vertices - len(pairs) + len(triples)
        assert euler == barcode.betti(0)[at] - barcode.betti(1)[at] + len(triples) - triangle_rank

    number = {pair: i for i, pair in enumerate(combinations(range(90), 2))}
    for at, (left, right) in enumerate(pairwise(layers)):
        cycles, _ = cycles_and_boundaries(cliques(between[at], 3), 1, number)
        union = Span(
            [boundary_chain(triple, number) for layer in (left, right) for triple in cliques(layer, 3)[2]]
        )
        before = union.dim
        for cycle in cycles:
            union.add(cycle)
        bars = barcode.of_dim(1)
        both = int(((bars[:, 0] <= 2 * at) & (bars[:, 1] > 2 * at + 2)).sum())
        assert both == union.dim - before


def test_betti_numbers_equal_gudhi():
    """Betti numbers of kNN layers are those of gudhi's persistent homology, where gudhi has a wheel."""
    gudhi = pytest.importorskip("gudhi", reason="gudhi has no wheel for this machine")
    graphs = layer_graphs(trajectory(150, 3, 8, seed=8), k=8)
    barcode = zigzag_barcode(graphs)
    for at, graph in enumerate(graphs):
        tree = gudhi.SimplexTree()
        for v in range(graph.vertices):
            tree.insert([v])
        for edge in graph.edges().tolist():
            tree.insert(edge)
        tree.expansion(2)
        tree.compute_persistence(homology_coeff_field=2, min_persistence=-1.0)
        betti = tree.betti_numbers()
        assert [barcode.betti(0)[2 * at], barcode.betti(1)[2 * at]] == betti[:2]


def test_compile_time_is_reported():
    """`warm_up` compiles or loads every kernel and says how long that took."""
    assert warm_up() > 0


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ([], {}, "at least one layer"),
        ([np.zeros((9, 2)), np.zeros((8, 2))], {"k": 2}, "layer 1 samples = 8"),
        ([np.zeros((9, 2)), Graph.from_edges(9, [])], {"k": 2}, "all graphs or all clouds"),
        ([Graph.from_edges(9, []), Graph.from_edges(8, [])], {}, "same vertices"),
        ([np.zeros((9, 2))], {"k": 9}, "more than 9 samples"),
        ([np.zeros((9, 2))], {"k": 0}, "k = 0"),
        ([np.zeros((9, 2))], {"k": 2, "threads": 0}, "threads = 0"),
        ([np.zeros((9, 2))], {"k": 2, "max_homology_dim": -1}, "max_homology_dim = -1"),
        ([np.full((9, 2), np.nan)], {"k": 2}, "layer 0, sample 0, coordinate 0 = nan"),
        (np.zeros((9, 2)), {"k": 2}, r"one array \[samples, width\]"),
        ([[[0.0, 1.0], [2.0]]], {"k": 1}, r"one array \[samples, width\]"),
        ([np.zeros((9, 0))], {"k": 2}, "width = 0"),
        ([np.zeros((9, 2), dtype=complex)], {"k": 2}, "real numbers"),
        ([np.array([[0.0], [1e200], [3.0]])], {"k": 1}, "overflow"),
    ],
)
def test_input_that_is_no_sequence_of_layers_is_refused(layers, options, words):
    """What cannot be used is named: field, value, rule."""
    with pytest.raises(InputError, match=words):
        zigzag_barcode(layers, **options)
