"""Random sequences of graphs and clouds for hypothesis, biased towards what breaks zigzag code."""

from __future__ import annotations

import os
from itertools import combinations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from tests.topology.zigzag_oracles import Layer
from topovlm.topology.complexes import Graph

CASES = int(os.environ.get("TOPOVLM_CASES", "0"))


def cases(few: int):
    """Settings for a property: `few` cases by default, as many as TOPOVLM_CASES says for a long run."""
    return settings(max_examples=CASES or few, deadline=None)


@st.composite
def layer_sequences(draw, max_vertices: int = 9, max_layers: int = 5) -> list[Layer]:
    """Layers that drift, jump, empty out, fill up or share nothing with the layer before."""
    vertices = draw(st.integers(0, max_vertices))
    pairs = list(combinations(range(vertices), 2))
    everything = set(pairs)
    subset = st.sets(st.sampled_from(pairs)) if pairs else st.just(set())
    current: set[tuple[int, int]] = draw(subset)
    layers = [(vertices, set(current))]
    for _ in range(draw(st.integers(0, max_layers - 1))):
        move = draw(st.sampled_from(["drift", "drift", "jump", "empty", "complete", "opposite"]))
        if move == "drift":
            current = current ^ set(sorted(draw(subset))[:3])
        elif move == "opposite":
            current = everything - current
        else:
            current = {"jump": draw(subset), "empty": set(), "complete": everything}[move]
        layers.append((vertices, set(current)))
    return layers


def as_graphs(layers: list[Layer]) -> list[Graph]:
    return [Graph.from_edges(vertices, sorted(edges)) for vertices, edges in layers]


def as_layers(graphs: list[Graph]) -> list[Layer]:
    return [(graph.vertices, {(u, v) for u, v in graph.edges().tolist()}) for graph in graphs]


def trajectory(samples: int, layers: int, width: int, seed: int) -> np.ndarray:
    """Clouds [layers, samples, width] that move like a residual stream: float32."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(layers, samples, width)) * np.linspace(1.0, 0.3, layers)[:, None, None]
    return np.cumsum(steps, axis=0).astype(np.float32)
