"""By what a judge should choose, and on how many samples: gaps of its choice to the best set there is.

The best set is picked on half of what measures and scored on the other half, so that nobody is lucky.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.accuracy.pools import Pool

COUNTS = (24, 48, 96, 192, 384)
_DRAWS = 40

# Measures of a judge [sets, samples] -> what is to be small.
OBJECTIVES: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    "KL(dense || slim)": lambda judged: judged["kl"],
    "KL(slim || dense)": lambda judged: judged["reverse"],
    "both directions": lambda judged: judged["kl"] + judged["reverse"],
    "root of KL": lambda judged: np.sqrt(judged["kl"]),
    "other tokens": lambda judged: -judged["same"],
}


def gaps(pool: Pool, seed: int) -> dict[str, dict[int, float]]:
    """By objective and number of samples the mean gap, over draws of samples and both halves of the items."""
    rng = np.random.default_rng([seed, 23])
    samples = next(iter(pool.judged.values())).shape[1]
    order = rng.permutation(pool.lost.shape[1])
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    means = [pool.lost[:, half].mean(1) for half in halves]
    best = [int(means[0].argmin()), int(means[1].argmin())]
    values = {name: of(pool.judged) for name, of in OBJECTIVES.items()}
    found: dict[str, dict[int, float]] = {name: {} for name in values}
    for count in (count for count in COUNTS if count <= samples):
        draws = [rng.choice(samples, count, replace=False) for _ in range(_DRAWS)]
        for name, value in values.items():
            chosen = [int(value[:, drawn].mean(1).argmin()) for drawn in draws]
            found[name][count] = float(
                np.mean([means[here][one] - means[here][best[1 - here]] for one in chosen for here in (0, 1)])
            )
    return found
