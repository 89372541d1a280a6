"""Layer scores from hidden states: one function per scorer in one registry. Torch-free.

Every scorer takes the states float32 [layers, samples, width] (residual stream after each block) and gives
one number per layer; a high score says that the layer may go. Layer l of a score is block l.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.topology.barcode import Barcode


@dataclass(frozen=True)
class Settings:
    """What a scorer may depend on besides the states. `drop_count` matters to block-wise scorers alone."""

    k: int = 15
    seed: int = 0
    drop_count: int = 1
    protected: frozenset[int] = frozenset()
    sigma: float = 1.0
    eps: float = 0.9
    barcode: Barcode | None = None


@dataclass(frozen=True)
class ScoreResult:
    """`scores` per layer, `order` layers from first to last to go, `extra` what the report shows besides."""

    scorer: str
    scores: list[float]
    order: list[int]
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Scorer = Callable[[np.ndarray, Settings], tuple[np.ndarray, dict[str, Any]]]


def _barcode(states: np.ndarray, settings: Settings) -> Barcode:
    from topovlm.topology.zigzag import zigzag_barcode

    return settings.barcode or zigzag_barcode(states, k=settings.k, max_homology_dim=1)


def _zigzag(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    """Mean inter-layer persistence of H1 with alpha = 0 (docs/method.md, Descriptors): high may go."""
    from topovlm.topology.descriptors import betti_curve, births_frequency, mean_persistence

    barcode = _barcode(states, settings)
    scores = mean_persistence(barcode, 1, 0.0)
    extra = {
        "k": settings.k,
        "homology": 1,
        "alpha": 0.0,
        "bars": [int((barcode.bars[:, 0] == dim).sum()) for dim in (0, 1)],
        "betti": [betti_curve(barcode, dim).tolist() for dim in (0, 1)],
        "births": births_frequency(barcode, 1).tolist(),
        "mean_persistence_h0": mean_persistence(barcode, 0, 0.0).tolist(),
    }
    return scores, extra


def _zigzag_seed(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    """The criterion of arXiv 2604.16502: alpha = 1, on the Gaussian effective persistence image, H0 and H1.

    Inter-layer persistence is read off the smoothed image: the mass of bars born at or before the earlier
    layer and still alive after the later one, over the mass alive at the layer. The paper leaves sigma, the
    weight and the union of H0 and H1 open: sigma = 1 layer, weight = persistence, images are added.
    """
    from topovlm.topology.descriptors import activity, gaussian_image

    barcode = _barcode(states, settings)
    image = sum(gaussian_image(barcode, dim, sigma=settings.sigma) for dim in (0, 1))
    assert isinstance(image, np.ndarray)
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
    threshold = settings.eps * scores.max()
    extra = {
        "k": settings.k,
        "alpha": 1.0,
        "sigma_layers": settings.sigma,
        "eps": settings.eps,
        "over_threshold": [int(layer) for layer in np.flatnonzero(scores >= threshold)],
        "activity": activity(image).tolist(),
        "open_in_the_paper": "sigma, weight, union of H0 and H1: see the scorer's documentation",
    }
    return scores, extra


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine of corresponding rows, float64 [N]; 0 where a row is zero."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.divide((left * right).sum(1), norms, out=np.zeros(len(left)), where=norms > 0)


def _block_influence(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    """Mean cosine between the residual stream before and after the block (ShortGPT, arXiv 2403.03853).

    The stream before block 0 is not among the states: that block gets the lowest score.
    """
    later = [_cosines(states[layer - 1], states[layer]).mean() for layer in range(1, len(states))]
    return np.array([min(later, default=0.0), *later]), {"first_layer": "not measured, set to the lowest"}


def _angular(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    """Angular distance across `drop_count` consecutive blocks (Gromov et al., arXiv 2403.17887).

    A layer scores one less the smallest distance of the windows it lies in, so the top `drop_count` layers
    are the closest window. Windows that touch a protected layer do not count.
    """
    layers, width = len(states), max(1, settings.drop_count)
    distances = {
        start: float(
            np.mean(np.arccos(np.clip(_cosines(states[start - 1], states[start + width - 1]), -1, 1))) / np.pi
        )
        for start in range(1, layers - width + 1)
        if not settings.protected & set(range(start, start + width))
    }
    scores = np.zeros(layers)
    for start, distance in distances.items():
        window = slice(start, start + width)
        scores[window] = np.maximum(scores[window], 1.0 - distance)
    best = min(distances, key=lambda start: (distances[start], start), default=None)
    return scores, {"window_layers": width, "window_start": best}


def _depth_prior(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    """Nearness to 0.7 of the depth, without looking at the model (docs/method.md, Descriptors)."""
    depth = (np.arange(len(states)) + 0.5) / len(states)
    return 1.0 - np.abs(depth - 0.7), {"centre": 0.7}


def _random(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    """A seeded random order: the floor that every other scorer has to beat."""
    return np.random.default_rng([settings.seed, 97]).random(len(states)), {"seed": settings.seed}


SCORERS: dict[str, Scorer] = {
    "zigzag": _zigzag,
    "zigzag-seed": _zigzag_seed,
    "block-influence": _block_influence,
    "angular": _angular,
    "depth-prior": _depth_prior,
    "random": _random,
}


def score(
    states: np.ndarray,
    scorer: str = "zigzag",
    k: int = 15,
    *,
    seed: int = 0,
    drop_count: int = 1,
    protected: Collection[int] = (),
    sigma: float = 1.0,
    eps: float = 0.9,
    barcode: Barcode | None = None,
) -> ScoreResult:
    """Scores of one scorer on states [layers, samples, width]. Raises `InputError`.

    `barcode` (of these states at this k) saves computing it again; see `score_all`.
    """
    if scorer not in SCORERS:
        raise InputError(explain("--scorer", scorer, "is unknown", f"Choose one of {', '.join(SCORERS)}"))
    _check_states(states)
    settings = Settings(k, seed, drop_count, frozenset(protected), sigma, eps, barcode)
    values, extra = SCORERS[scorer](states, settings)
    scores = [float(value) for value in values]
    return ScoreResult(scorer, scores, ranking(scores), extra)


def score_all(
    states: np.ndarray,
    k: int = 15,
    *,
    seed: int = 0,
    drop_count: int = 1,
    protected: Collection[int] = (),
    names: Sequence[str] = tuple(SCORERS),
) -> dict[str, ScoreResult]:
    """Every scorer on the same states; the barcode is computed once."""
    _check_states(states)
    needs_barcode = any(name.startswith("zigzag") for name in names)
    barcode = _barcode(states, Settings(k=k)) if needs_barcode else None
    return {
        name: score(states, name, k, seed=seed, drop_count=drop_count, protected=protected, barcode=barcode)
        for name in names
    }


def _check_states(states: np.ndarray) -> None:
    if states.ndim != 3 or 0 in states.shape:
        raise InputError(explain("states", states.shape, "must be [layers, samples, width], none of them 0"))
    if not np.isfinite(states).all():
        raise InputError(explain("states", states.shape, "hold values that are not finite"))


def ranking(scores: Sequence[float]) -> list[int]:
    """Layers from the highest score to the lowest; the earlier layer first among equals."""
    return sorted(range(len(scores)), key=lambda layer: (-scores[layer], layer))


def select(scores: Sequence[float], drop_count: int, protected: Collection[int]) -> list[int]:
    """The `drop_count` layers of highest score that are not protected, ascending. Raises `InputError`."""
    free = [layer for layer in ranking(scores) if layer not in set(protected)]
    if drop_count < 0:
        raise InputError(explain("layers to drop", drop_count, "must not be negative"))
    if drop_count > len(free):
        rule = f"only {len(free)} of the {len(scores)} layers are not protected"
        raise InputError(explain("layers to drop", drop_count, rule, "Drop fewer layers"))
    return sorted(free[:drop_count])


def select_over_threshold(scores: Sequence[float], eps: float, protected: Collection[int] = ()) -> list[int]:
    """Every unprotected layer whose score reaches eps times the highest: the papers' rule, ascending."""
    if not 0 < eps <= 1:
        raise InputError(explain("eps", eps, "must lie above 0 and at most at 1"))
    bound = eps * max(scores)
    return [layer for layer, value in enumerate(scores) if value >= bound and layer not in set(protected)]


def equivalent_eps(scores: Sequence[float], dropped: Collection[int]) -> float | None:
    """The threshold share that the lowest dropped score corresponds to; None without a positive maximum."""
    top = max(scores, default=0.0)
    return min(scores[layer] for layer in dropped) / top if dropped and top > 0 else None
