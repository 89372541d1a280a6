"""Mixtures of experts in a graph: every expert for every token, weighed by what the router says.

transformers runs the chosen experts one after the other, which no graph of a fixed form can do; gathering the
chosen experts' weights token by token takes more memory in a prompt than the model has. So all of them are
computed, and those that were not chosen count for nothing: right, and slower by experts over chosen experts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

LIMIT = (
    "mixture of experts: the graphs compute every expert for every token, the ones not chosen with weight "
    "zero; the answers are the model's, latency is that of a dense model with all its experts"
)


def mixtures(module: nn.Module) -> list[nn.Module]:
    """Modules that hold the weights of several experts in one tensor, as transformers lays them out."""
    return [
        part
        for part in module.modules()
        if all(getattr(getattr(part, name, None), "ndim", 0) == 3 for name in ("gate_up_proj", "down_proj"))
        and hasattr(part, "act_fn")
    ]


@contextlib.contextmanager
def all_computed(module: nn.Module) -> Iterator[None]:
    """Within the block, mixtures inside `module` compute all their experts."""
    parts: list[Any] = mixtures(module)
    for part in parts:
        part.forward = _Forward(part)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


class _Forward:
    """hidden `[tokens, hidden]`, index and weight of the chosen `[tokens, chosen]` -> `[tokens, hidden]`."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __call__(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        part = self.part
        count = part.gate_up_proj.shape[0]
        none = torch.zeros(hidden_states.shape[0], count, dtype=top_k_weights.dtype)
        weights = none.scatter(1, top_k_index, top_k_weights)
        gate, up = torch.matmul(hidden_states[None], part.gate_up_proj.transpose(1, 2)).chunk(2, dim=-1)
        each = torch.matmul(part.act_fn(gate) * up, part.down_proj.transpose(1, 2))
        return (each * weights.t()[:, :, None]).sum(0)
