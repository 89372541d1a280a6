"""By what a judge should choose, and on how many samples: gaps of its choice to the best set there is.

The best set is picked on half of what measures and scored on the other half, so that nobody is lucky.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.accuracy.pools import Pool

COUNTS = (24, 48, 96, 192, 384)
_DRAWS = 40

# A mistake of the dense model counts so much where mistakes count less.
_MISTAKE = 0.25
# Measures of a judge [sets, samples] -> what is to be small.
Objective = Callable[[Mapping[str, np.ndarray]], np.ndarray]
OBJECTIVES: dict[str, Objective] = {
    "KL(dense || slim)": lambda judged: judged["kl"],
    "KL(slim || dense)": lambda judged: judged["reverse"],
    "both directions": lambda judged: judged["kl"] + judged["reverse"],
    "root of KL": lambda judged: np.sqrt(judged["kl"]),
    "other tokens": lambda judged: -judged["same"],
}
# Where the right answers are known: "nll" of these, and "right", 1 where the dense model gives them.
WITH_ANSWERS: dict[str, Objective] = {
    "task loss": lambda judged: judged["nll"],
    "KL and task loss": lambda judged: judged["kl"] + judged["nll"],
    "both directions, mistakes of the dense model a quarter": lambda judged: (
        (judged["kl"] + judged["reverse"]) * np.where(judged["right"] == 1, 1, _MISTAKE)
    ),
    "both directions, where the dense model is right": lambda judged: (
        (judged["kl"] + judged["reverse"]) * judged["right"]
    ),
}


def gaps(pool: Pool, seed: int) -> dict[str, dict[int, float]]:
    """By objective and number of samples the mean gap, over draws of samples and both halves of the items."""
    rng = np.random.default_rng([seed, 23])
    samples = next(iter(pool.judged.values())).shape[1]
    order = rng.permutation(pool.lost.shape[1])
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    means = [pool.lost[:, half].mean(1) for half in halves]
    best = [int(means[0].argmin()), int(means[1].argmin())]
    known = OBJECTIVES | (WITH_ANSWERS if "nll" in pool.judged else {})
    values = {name: of(pool.judged) for name, of in known.items()}
    found: dict[str, dict[int, float]] = {name: {} for name in values}
    for count in (count for count in COUNTS if count <= samples):
        draws = [rng.choice(samples, count, replace=False) for _ in range(_DRAWS)]
        for name, value in values.items():
            chosen = [int(value[:, drawn].mean(1).argmin()) for drawn in draws]
            found[name][count] = float(
                np.mean([means[here][one] - means[here][best[1 - here]] for one in chosen for here in (0, 1)])
            )
    return found
