"""The module that a family's record names for its pictures."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import nn

from topovlm.families.family import named
from topovlm.families.torch_parts import TorchParts


class Vision(Protocol):
    """What is traced: inputs of one run -> image_features, rows in the order of the prompt's image tokens.

    `samples`: inputs to trace with, by name and in `forward`'s order; every dynamic axis is at least 2, and
    axes of different names have different sizes. `axes`: names of each input's dynamic axes.
    """

    axes: ClassVar[dict[str, dict[int, str]]]
    outputs: ClassVar[tuple[str, ...]]

    def samples(self) -> dict[str, torch.Tensor]:
        """Inputs in the model's own precision, on the CPU."""


def vision_of(parts: TorchParts) -> nn.Module:
    """The family's module, a `Vision`, where the model is: it has buffers of its own.

    Raises `ValueError` for a family that states no graphs.
    """
    if parts.family.graphs is None or not parts.family.graphs.vision:
        raise ValueError(f"{parts.family.model_type}: the family's record has no vision graph")
    module = named(parts.family.graphs.vision, __name__)(parts)
    if not isinstance(module, nn.Module):
        raise TypeError(f"{parts.family.graphs.vision}: gave {type(module).__name__}, no torch module")
    return module.to(parts.model.device)
