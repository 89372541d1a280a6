"""Prompts as tensors, and what batches are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from topovlm.errors import InputError, explain


@dataclass(frozen=True)
class Encoded:
    """One prompt after the chat template: token ids [T], the tensors of its pictures, and what the model is
    told of each token [T] (pieces of a picture; a prompt that sees itself whole)."""

    input_ids: torch.Tensor
    extra: dict[str, torch.Tensor]
    types: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return int(self.input_ids.shape[0])


def in_a_row(values: Sequence[torch.Tensor], prompts: Sequence[Encoded]) -> torch.Tensor:
    """Concatenated along the first axis; along others filled up with zeros, which models cut off again."""
    sizes = torch.tensor([value.shape[1:] for value in values])
    if len(values) > 1 and (sizes != sizes[0]).any():
        told = {name for prompt in prompts for name in prompt.extra}
        if not told & {"image_sizes", "pixel_attention_mask"}:
            rule = "the pictures have different sizes, and this model is not told which"
            raise InputError(explain("batch size", len(prompts), rule, "Use a batch size of 1"))
        missing = [(sizes.max(0).values - size).flip(0).tolist() for size in sizes]
        fill = [[part for gap in gaps for part in (0, gap)] for gaps in missing]
        values = [functional.pad(value, gaps) for value, gaps in zip(values, fill, strict=True)]
    return torch.cat(list(values))


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of like length (least padding); stable, so the same input gives the same batches."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
