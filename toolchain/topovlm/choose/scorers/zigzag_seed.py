"""The criterion of the paper that carried zigzag persistence to vision-language models, as published."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings
from topovlm.topology.descriptors import gaussian_image

# What the paper leaves open, and its share of the highest score that a layer must reach to go.
SIGMA_LAYERS = 1.0
EPS = 0.9


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """The criterion of arXiv 2604.16502: alpha = 1, on the Gaussian effective persistence image, H0 and H1.

    Inter-layer persistence is read off the smoothed image: the mass of bars born at or before the earlier
    layer and still alive after the later one, over the mass alive at the layer. The paper leaves sigma, the
    weight and the union of H0 and H1 open: sigma = 1 layer, weight = persistence, images are added.
    """
    barcode = settings.needed_barcode()
    image = gaussian_image(barcode, 0, sigma=SIGMA_LAYERS) + gaussian_image(barcode, 1, sigma=SIGMA_LAYERS)
    layers = barcode.layers
    births, lives = np.arange(layers)[:, None], np.arange(1, layers + 1)[None, :]
    scores = np.zeros(layers)
    for layer in range(layers):
        gaps = np.abs(np.arange(layers) - layer).astype(float)
        alive = image[(births <= layer) & (births + lives > layer)].sum()
        if layers > 1 and alive > 0:
            shares = [
                image[(births <= min(layer, other)) & (births + lives > max(layer, other))].sum() / alive
                for other in range(layers)
            ]
            scores[layer] = float(gaps @ np.array(shares) / gaps.sum())
    over = np.flatnonzero(scores >= EPS * scores.max())
    extra: Extra = {
        "alpha": 1.0,
        "sigma_layers": SIGMA_LAYERS,
        "eps": EPS,
        "over_threshold": ", ".join(map(str, over)),
        "open_in_the_paper": "sigma, weight, union of H0 and H1: see the scorer's documentation",
    }
    return scores, extra


SCORER = Scorer(
    name="zigzag-seed",
    paper="arXiv 2604.16502",
    why="consistent with far layers: components and loops of its neighbour graph live on in them",
    score=score,
    needs=frozenset({"barcode"}),
    judged=False,
)
