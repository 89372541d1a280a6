"""Trajectories of clouds for the zigzag benchmark, from steady neighbourhoods to none."""

from __future__ import annotations

import numpy as np

KINDS = ("residual", "clustered", "noisy", "fresh")
LATENT = {"residual": 12, "noisy": 24}
CLUSTERS = 20


def trajectory(kind: str, samples: int, layers: int, width: int, seed: int = 0) -> np.ndarray:
    """Clouds float32 [layers, samples, width].

    residual: a residual stream of intrinsic dimension 12 with a little noise, two coordinates near 1,500;
    some 95 % of the edges pass on to the next layer. clustered: samples stay around 20 centres and move a
    little. noisy: a residual stream that is mostly isotropic noise, with many loops and, at first, few common
    edges. fresh: every layer is drawn anew and shares almost nothing with the next.
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
    size = LATENT[kind]
    latent = rng.normal(size=(samples, size))
    if kind == "residual":
        state = latent @ rng.normal(size=(size, width)) + 0.3 * rng.normal(size=(samples, width))
    else:
        state = rng.normal(size=(samples, width))
    for layer in range(layers):
        clouds[layer] = state
        if kind == "residual":
            hidden = np.tanh(latent @ rng.normal(size=(size, size)) / size**0.5)
            update, noise = 0.3 * hidden @ rng.normal(size=(size, width)), 0.15
        else:
            update, noise = 0.12 * latent @ rng.normal(size=(size, width)), 0.35
        state = state + update + noise * rng.normal(size=state.shape)
    clouds[:, :, :2] += 1500.0
    return clouds
