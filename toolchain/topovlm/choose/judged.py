"""What a judge has found of one model, sample by sample. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Judged:
    """float64 [samples] each: `kl`, KL(dense || slim), and `reverse`, KL(slim || dense), in nats per answer
    token; `same`, the share of answer tokens that would be chosen as the dense model does."""

    kl: np.ndarray
    reverse: np.ndarray
    same: np.ndarray

    @property
    def apart(self) -> np.ndarray:
        """Both directions, added: what the finals go by. It tells sets apart on fewer samples than one does
        (docs/accuracy.md)."""
        both: np.ndarray = self.kl + self.reverse
        return both

    @property
    def samples(self) -> int:
        return len(self.kl)


def nothing_yet(samples: int) -> Judged:
    return Judged(*(np.zeros(samples) for _ in range(3)))


def joined(parts: Sequence[Judged]) -> Judged:
    """Of several lots of samples, one behind the other."""
    return Judged(
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.reverse for part in parts]),
        np.concatenate([part.same for part in parts]),
    )
