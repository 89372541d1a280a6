"""One block of a vision tower, written out: the tower's own norms, projections and MLP, our attention.

A tower's own block cuts its sequence at lengths that are data; that cannot be traced. What a block looks
like is read off the loaded module: one qkv projection or three, what its norms and its attention are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Windows:
    """Windows of patches, all padded to one size.

    gather `[windows, size]`: patches, any where there is none. mask `[windows, 1, 1, size]`: added to the
    scores, 0 where there is a patch. back `[patches]`: where each patch is in the flattened gather.
    """

    gather: torch.Tensor
    mask: torch.Tensor
    back: torch.Tensor


def windows_of(gather: torch.Tensor, patches: int, dtype: torch.dtype) -> Windows:
    """From the patches of each window, `[windows, size]`, padded with -1."""
    there = gather >= 0
    mask = torch.where(there, 0.0, torch.finfo(dtype).min / 2).to(dtype)
    # Padding is sent to one place more than there are patches, which is then cut off.
    places = torch.where(there, gather, patches).flatten()
    order = torch.arange(places.shape[0], device=places.device)
    back = torch.zeros(patches + 1, dtype=places.dtype, device=places.device).scatter(0, places, order)
    return Windows(gather.clamp(min=0), mask[:, None, None], back[:patches])


def encode(
    block: nn.Module,
    hidden: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    windows: Windows | None = None,
) -> torch.Tensor:
    """hidden `[patches, width]` before the block -> after it; pre-norm, two residual branches.

    cos, sin: `[patches, head_dim]`. Without windows every patch sees every other.
    """
    attention = _first(block, "attn", "self_attn")
    query, key, value = _projected(attention, _first(block, "norm1", "layer_norm1")(hidden))
    query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
    if windows is None:
        seen = _attended(attention.scaling, query[None], key[None], value[None])[0]
    else:
        query, key, value = (part[windows.gather] for part in (query, key, value))
        seen = _attended(attention.scaling, query, key, value, windows.mask).flatten(0, 1)[windows.back]
    hidden = hidden + _first(attention, "proj", "out_proj")(seen.flatten(1))
    changed: torch.Tensor = hidden + _first(block, "mlp")(_first(block, "norm2", "layer_norm2")(hidden))
    return changed


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
    scale: float,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """`[batch, patches, heads, head_dim]`, three of them -> one."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale).transpose(
        1, 2
    )


def _first(module: nn.Module, *names: str) -> Any:
    """The first attribute that the module has."""
    return next(getattr(module, name) for name in names if hasattr(module, name))
