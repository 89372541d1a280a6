"""The torch modules that are traced: the parts of a decoder, with explicit inputs, masks and cache.

What one decoder layer reads and writes is written here; the module for pictures is the family's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from topovlm.exporters.onnx.rules import SLIDING, Rules
from topovlm.families.torch_parts import TorchParts, cache_name


class Embed(nn.Module):
    """input_ids `[batch, seq]` -> inputs_embeds `[batch, seq, hidden]`: scaled as the model does."""

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.table = parts.embedding

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        embeds: torch.Tensor = self.table(input_ids)
        return embeds


class Prelude(nn.Module):
    """What all layers share: for each kind of attention an additive mask, and rotary tables.

    inputs_embeds `[batch, seq, hidden]`, attention_mask `[batch, past + seq]`, position_ids `[batch, seq]` or
    `[3, batch, seq]`, and, where tokens see each other whole, block_ids `[batch, seq]` (0: none) -> masks
    `[batch, 1, seq, past + seq]`, then cos and sin of each table. Slots count, not positions: a token sees
    what stands before it in the cache. The mask's value is half of the type's lowest: added to a score it
    stays finite in fp16 too, so a row that may see nothing (left padding) gives no NaN.
    """

    def __init__(self, parts: TorchParts, rules: Rules) -> None:
        super().__init__()
        self.rotary = parts.rotary
        self.rules = rules

    @property
    def outputs(self) -> list[str]:
        """Names of what is returned, in order."""
        masks = [f"mask.{kind}" for kind in self.rules.kinds]
        return masks + [f"{part}.{table}" for table in tables(self.rules) for part in ("cos", "sin")]

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        block_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        new, total = inputs_embeds.shape[1], attention_mask.shape[1]
        slots = torch.arange(total, device=attention_mask.device)
        query = slots[total - new :][:, None]
        causal = (slots[None, :] <= query)[None]
        padding = attention_mask[:, None, :] > 0
        whole = None if block_ids is None else _same_block(block_ids, total)
        masks = []
        for kind in self.rules.kinds:
            seen = causal
            if kind == SLIDING:
                assert self.rules.window is not None
                seen = seen & (slots[None, :] > query - self.rules.window)[None]
            seen = padding & (seen if whole is None else seen | whole)
            lowest = torch.finfo(inputs_embeds.dtype).min / 2
            masks.append(torch.where(seen, 0.0, lowest).to(inputs_embeds.dtype)[:, None])
        angles: list[torch.Tensor] = []
        for table in tables(self.rules):
            more = (table,) if self.rules.rotary_by_kind else ()
            angles += self.rotary(inputs_embeds, position_ids, *more)
        return (*masks, *angles)


def _same_block(block_ids: torch.Tensor, total: int) -> torch.Tensor:
    """bool `[batch, seq, past + seq]`: both belong to one block. What is in the cache belongs to none."""
    past = torch.zeros(block_ids.shape[0], total - block_ids.shape[1], dtype=block_ids.dtype)
    keys = torch.cat([past, block_ids], dim=1)
    return (block_ids[:, :, None] == keys[:, None, :]) & (block_ids[:, :, None] > 0)


def tables(rules: Rules) -> tuple[str, ...]:
    """Names of the rotary tables: one for all layers, or one for each kind of attention."""
    return rules.kinds if rules.rotary_by_kind else ("all",)


def table_of(rules: Rules, kind: str) -> str:
    """The rotary table that layers of this kind of attention read."""
    return kind if rules.rotary_by_kind else "all"


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
        self.cache_name = cache_name(layer)

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
        given = {self.cache_name: cache, "use_cache": True}
        result = self.layer(hidden, attention_mask=mask, position_embeddings=(cos, sin), **given)
        return (result if isinstance(result, torch.Tensor) else result[0]), cache.key, cache.value


class Head(nn.Module):
    """hidden `[batch, seq, hidden]` -> logits `[batch, seq, vocab]`: final norm, output projection, cap."""

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.norm = parts.norm
        self.lm_head = parts.head
        self.cap = parts.logit_cap

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.lm_head(self.norm(hidden))
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits
