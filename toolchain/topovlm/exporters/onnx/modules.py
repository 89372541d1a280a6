"""The torch modules that are traced: the parts of a decoder, with explicit inputs, mask and cache.

What one decoder layer reads and writes is written here; the module for pictures is the family's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from topovlm.families.torch_parts import TorchParts


class Prelude(nn.Module):
    """What all layers share: the rotary tables and one additive mask (causal by cache slot, and padding).

    attention_mask `[batch, past + seq]`, position_ids `[batch, seq]` -> mask `[batch, 1, seq, past + seq]`,
    cos and sin `[batch, seq, head_dim]`. The mask's value is half of the type's lowest: added to a score it
    stays finite in fp16 too, so a row that may see nothing (left padding) gives no NaN.
    """

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.rotary = parts.rotary

    def forward(
        self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        cos, sin = self.rotary(inputs_embeds, position_ids)
        new, total = inputs_embeds.shape[1], attention_mask.shape[1]
        slots = torch.arange(total, device=attention_mask.device)
        query_slots = slots[total - new :]
        seen = (slots[None, :] <= query_slots[:, None])[None, None] & (attention_mask[:, None, None, :] > 0)
        lowest = torch.finfo(inputs_embeds.dtype).min / 2
        mask = torch.where(seen, 0.0, lowest).to(inputs_embeds.dtype)
        return mask, cos, sin


class _OneLayerCache:
    """The cache as one decoder layer sees it: `update` appends the new keys and values to the past."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.key, self.value = key, value

    def update(
        self, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.key = torch.cat([self.key, key], dim=2)
        self.value = torch.cat([self.value, value], dim=2)
        return self.key, self.value


class Layer(nn.Module):
    """One decoder layer: hidden `[batch, seq, hidden]` and its past -> hidden and its present."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(  # noqa: PLR0917 - the order of the traced graph's inputs
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        past_key: torch.Tensor,
        past_value: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        check: Callable[[bool], None] = torch._check  # untyped in torch
        check(past_key.shape[2] == past_value.shape[2])
        check(mask.shape[3] == past_key.shape[2] + hidden.shape[1])
        cache = _OneLayerCache(past_key, past_value)
        result = self.layer(
            hidden, attention_mask=mask, position_embeddings=(cos, sin), past_key_values=cache, use_cache=True
        )
        return (result if isinstance(result, torch.Tensor) else result[0]), cache.key, cache.value


class Head(nn.Module):
    """hidden `[batch, seq, hidden]` -> logits `[batch, seq, vocab]`: final norm and output projection."""

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.norm = parts.norm
        self.lm_head = parts.head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.lm_head(self.norm(hidden))
        return logits
