"""A model that sets of layers are tried on: what chooses, and what measures what was chosen.

Nothing that measures has chosen: texts, pictures and questions are split once, whatever the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from topovlm.checkpoint.live import Live
from topovlm.choose.sweep import Variant
from topovlm.samples import Sample

Drop = frozenset[int]


@dataclass(frozen=True)
class Outcome:
    """What one model gives, item by item: float64 [items], by measure. Larger is worse for "nll" alone."""

    items: Mapping[str, np.ndarray]

    def mean(self, measure: str) -> float:
        return float(self.items[measure].mean())


class Subject(Protocol):
    """`protected`: layers that no method may drop; `measures`: names, the deciding one first; `chance`: of
    those that are shares; `clusters` [items]: which items are of one text or picture."""

    name: str
    folder: Path
    layers: int
    protected: frozenset[int]
    measures: tuple[str, ...]

    @property
    def chance(self) -> Mapping[str, float]: ...

    def at(self, folder: Path) -> Subject:
        """The same questions put to another checkpoint."""
        ...

    def about(self, samples: Sequence[Sample]) -> Subject | None:
        """The same checkpoint, asked these; None where samples have no answers."""
        ...

    @property
    def live(self) -> Live:
        """What chooses and measures; its weights may be other ones while it does."""
        ...

    def calibration(self, count: int, seed: int) -> list[Sample]:
        """Samples that choose, another draw for every seed."""
        ...

    def measure(self, variants: Sequence[Variant]) -> list[Outcome]:
        """On items that are the same for all."""
        ...


def free_layers(subject: Subject) -> list[int]:
    return [layer for layer in range(subject.layers) if layer not in subject.protected]


@torch.inference_mode()
def log_probabilities(live: Live, stream: torch.Tensor) -> torch.Tensor:
    """float32 [..., vocabulary]."""
    return live.logits(stream).float().log_softmax(-1)
