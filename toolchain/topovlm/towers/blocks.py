"""One block of a vision tower, written out: the tower's own norms, projections and MLP, our attention.

A tower's own block cuts its sequence at lengths that are data; that cannot be traced. What a block looks
like is read off the loaded module: one qkv projection or three, what its norms and its attention are called.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def encode(
    block: nn.Module,
    hidden: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """hidden `[patches, width]` before the block -> after it; pre-norm, two residual branches.

    cos, sin: `[patches, head_dim]`. mask: `[patches, patches]`, added to the scores; None: all see all.
    """
    attention = _first(block, "attn", "self_attn")
    normed = _first(block, "norm1", "layer_norm1")(hidden)
    query, key, value = _projected(attention, normed)
    query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    seen = _attended(attention, query, key, value, mask)
    hidden = hidden + _first(attention, "proj", "out_proj")(seen[0].transpose(0, 1).flatten(1))
    changed: torch.Tensor = hidden + block.mlp(_first(block, "norm2", "layer_norm2")(hidden))  # type: ignore[operator]
    return changed


def same_window(window_ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`[patches]` -> `[patches, patches]`: 0 within a window, elsewhere half of the type's lowest."""
    within = window_ids[:, None] == window_ids[None, :]
    return torch.where(within, 0.0, torch.finfo(dtype).min / 2).to(dtype)


def _projected(attention: Any, normed: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values, each `[patches, heads, head_dim]`."""
    heads = attention.num_heads
    if hasattr(attention, "qkv"):
        parts = attention.qkv(normed).chunk(3, dim=-1)
    else:
        parts = [layer(normed) for layer in (attention.q_proj, attention.k_proj, attention.v_proj)]
    return tuple(part.unflatten(-1, (heads, -1)) for part in parts)


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary angles applied in fp32, as the towers do, whatever the type of the states."""
    first, second = states.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (states.float() * cos[:, None].float() + turned * sin[:, None].float()).to(states.dtype)


def _attended(
    attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """`[batch, heads, patches, head_dim]`, three of them -> one."""
    scale = attention.scaling
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def _first(module: nn.Module, *names: str) -> Any:
    """The first attribute that the module has."""
    return next(getattr(module, name) for name in names if hasattr(module, name))
