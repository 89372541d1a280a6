"""Layers that look like others of their stretch, taken from all stretches of the depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings

# Locality from which on so many clusters are made (section 5.1 of the paper).
_CLUSTERS = ((1.0, 2), (0.7, 3), (-np.inf, 4))


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Locality-aware redundancy (LoRP, arXiv 2605.27786), by its published description, on our states.

    S [L, L]: mean cosine of the layers' streams, sample by sample (the paper's: of all tokens). Locality is
    -log2 of S's mean off the diagonal; it says into how many clusters the layers fall (spectral clustering of
    (S + 1) / 2). A layer's redundancy is its mean similarity to the others of its cluster that are still
    there, a cluster's the mean of those pairs. First the most redundant layer of every cluster goes, in the
    order of depth, then again and again that of the cluster of largest redundancy. The score is the order.
    Layers that are protected never go, and count as members.
    """
    layers = len(states)
    similarity = cosine_map(states)
    clusters, locality = _clusters(similarity, settings.seed)
    order = _order(similarity, clusters, settings.protected)
    scores = np.zeros(layers)
    scores[order] = 1.0 - np.arange(len(order)) / layers
    return scores, {"clusters": len(clusters), "locality": round(locality, 4)}


def cosine_map(states: np.ndarray) -> np.ndarray:
    """float64 [L, L]: mean over samples of the cosine between two layers' streams."""
    layers, samples, _ = states.shape
    total = np.zeros((layers, layers))
    for sample in range(samples):
        rows = states[:, sample].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        total += unit @ unit.T
    mean: np.ndarray = total / samples
    return mean


def _clusters(similarity: np.ndarray, seed: int) -> tuple[list[list[int]], float]:
    """Clusters by their first layer, and the locality that says how many."""
    from sklearn.cluster import SpectralClustering

    layers = len(similarity)
    if layers < 3:
        return [[layer] for layer in range(layers)], 0.0
    off = float(similarity[np.triu_indices(layers, 1)].mean())
    locality = float(-np.log2(max(off, 1e-9)))
    count = min(next(number for least, number in _CLUSTERS if locality >= least), layers - 1)
    affinity = np.clip((similarity + 1.0) / 2.0, 0.0, None)
    labels = SpectralClustering(count, affinity="precomputed", random_state=seed).fit_predict(affinity)
    found = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    return sorted(found), locality


def _order(similarity: np.ndarray, clusters: Sequence[Sequence[int]], protected: frozenset[int]) -> list[int]:
    """All layers that may go, from the first to the last."""
    left = [list(cluster) for cluster in clusters]
    order: list[int] = []

    def able(cluster: Sequence[int]) -> list[int]:
        return [layer for layer in cluster if layer not in protected]

    def take(cluster: list[int]) -> None:
        layer = max(able(cluster), key=lambda one: (_to_others(similarity, one, cluster), -one))
        cluster.remove(layer)
        order.append(layer)

    for cluster in left:
        if able(cluster):
            take(cluster)
    while any(map(able, left)):
        take(max(filter(able, left), key=lambda cluster: _among(similarity, cluster)))
    return order


def _to_others(similarity: np.ndarray, layer: int, cluster: Sequence[int]) -> float:
    others = [other for other in cluster if other != layer]
    return float(similarity[layer, others].mean()) if others else -1.0


def _among(similarity: np.ndarray, cluster: Sequence[int]) -> float:
    """Mean over pairs; a layer by itself has none to be like."""
    if len(cluster) < 2:
        return -1.0
    return float(np.mean([_to_others(similarity, layer, cluster) for layer in cluster]))


SCORER = Scorer(
    name="spread",
    paper="arXiv 2605.27786",
    why="its stream is the most like those of its stretch of the depth, and every stretch gives some",
    score=score,
    depends_on_count=True,
)
