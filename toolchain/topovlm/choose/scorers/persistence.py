"""Shape without the zigzag: every layer's loops and components at all scales, beside its neighbour's."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings
from topovlm.errors import MissingToolError, explain

# Vietoris-Rips complexes grow with the cube of the points.
MOST_POINTS = 256
_DIMENSIONS = (0, 1)


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """1 / (1 + d) with d the bottleneck distance between the persistence diagrams of the clouds before and
    behind a layer: H0 and H1 of their Vietoris-Rips complexes (gudhi), the larger of the two distances.

    Each cloud is scaled to a median distance of 1, since streams grow with depth. Of the points,
    `MOST_POINTS` are drawn with the seed. Unlike a zigzag, two diagrams do not say whether it is the same
    loop. The cloud before block 0 is not known: that block gets the lowest score.
    """
    from gudhi.hera import bottleneck_distance  # BSD: gudhi's own one uses a library under the GPL

    points = settings.needed_points()
    count = min(points.shape[1], MOST_POINTS)
    chosen = np.sort(np.random.default_rng([settings.seed, 89]).permutation(points.shape[1])[:count])
    before, later = diagrams(points[0, chosen]), []
    for cloud in points[1:]:
        after = diagrams(cloud[chosen])
        far = max(bottleneck_distance(*pair, 0.0) for pair in zip(before, after, strict=True))  # 0.0: exactly
        later.append(1.0 / (1.0 + far))
        before = after
    extra: Extra = {"points": count, "first_layer": "not measured, set to the lowest"}
    return np.array([min(later, default=0.0), *later]), extra


def diagrams(cloud: np.ndarray) -> Sequence[np.ndarray]:
    """Finite bars (birth, death) of H0 and H1 of a cloud [points, width] scaled to a median distance of 1."""
    from gudhi.sklearn.rips_persistence import RipsPersistence
    from scipy.spatial.distance import pdist, squareform

    distances = pdist(cloud.astype(np.float64))
    scale = float(np.median(distances)) if len(distances) else 0.0
    matrix = squareform(distances / scale if scale > 0 else distances)
    rips = RipsPersistence(list(_DIMENSIONS), input_type="full distance matrix")
    (found,) = rips.fit_transform([matrix])
    return [bars[np.isfinite(bars).all(axis=1)] for bars in map(np.asarray, found)]


def ready() -> None:
    if importlib.util.find_spec("gudhi") is None:
        remedy = "pip install 'topovlm[persistence]'; for Linux on ARM it has no wheel: choose another scorer"
        raise MissingToolError(explain("--scorer", "persistence", "needs the package gudhi", remedy))


SCORER = Scorer(
    name="persistence",
    paper="the ablation of arXiv 2604.16502: persistent homology layer by layer",
    why="the diagram of components and loops behind it is nearest to the one before it",
    score=score,
    needs=frozenset({"points"}),
    on_request=True,
    ready=ready,
)
