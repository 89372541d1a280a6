"""Trajectories of clouds for the zigzag benchmark, at three levels of overlap between layers."""

from __future__ import annotations

import numpy as np

KINDS = ("residual", "clustered", "fresh")
LATENT = 24
CLUSTERS = 20


def trajectory(kind: str, samples: int, layers: int, width: int, seed: int = 0) -> np.ndarray:
    """Clouds float32 [layers, samples, width].

    residual: a residual stream, isotropic and low-rank updates over it, two coordinates near 1,500.
    clustered: samples stay around 20 centres and move a little. fresh: every layer is drawn anew, so that
    neighbouring layers share almost no edge.
    """
    rng = np.random.default_rng(seed)
    if kind == "fresh":
        return rng.normal(size=(layers, samples, width)).astype(np.float32)
    clouds = np.empty((layers, samples, width), dtype=np.float32)
    if kind == "clustered":
        centres = 2.0 * rng.normal(size=(CLUSTERS, width))
        state = centres[rng.integers(0, CLUSTERS, samples)] + rng.normal(size=(samples, width))
        for layer in range(layers):
            state = state + 0.15 * rng.normal(size=state.shape)
            clouds[layer] = state
        return clouds
    state = rng.normal(size=(samples, width))
    latent = rng.normal(size=(samples, LATENT))
    for layer in range(layers):
        clouds[layer] = state
        update = 0.12 * latent @ rng.normal(size=(LATENT, width))
        state = state + 0.35 * rng.normal(size=state.shape) + update
    clouds[:, :, :2] += 1500.0
    return clouds
