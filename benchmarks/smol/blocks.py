"""The published decoder for training: frozen weights in bfloat16, a small change of low rank beside them.

A row holds a prefix (the picture) and n questions of Q tokens each behind it. Every question sees the prefix
and itself, never another question, and its positions continue behind the prefix: token for token what the
model sees when it is asked that question alone. Attention is computed by blocks (prefix; each question with
the prefix and with itself), so that no score between questions is ever computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

RANK = 16
# The products of a layer that get a change, as the names of their weights in the checkpoint.
CHANGED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "down": ("mlp.down_proj",),
}


class Change(nn.Module):
    """A change of low rank of one product: x -> B A x; B starts at zero."""

    def __init__(self, inputs: int, outputs: int, rank: int = RANK) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.a.to(x.dtype)) * scale, self.b.to(x.dtype))


class Layer(nn.Module):
    """One layer of a Llama decoder over rows [B, P + n Q, width]."""

    def __init__(self, layer: Any, config: Any) -> None:
        super().__init__()
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.head, self.eps = config.head_dim, config.rms_norm_eps
        attention, mlp = layer.self_attn, layer.mlp

        def hold(name: str, *weights: torch.Tensor) -> None:
            whole = torch.cat([weight.detach() for weight in weights]).to(torch.bfloat16)
            self.register_buffer(name, whole.contiguous(), persistent=False)

        hold("qkv", attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        hold("out", attention.o_proj.weight)
        hold("gate_up", mlp.gate_proj.weight, mlp.up_proj.weight)
        hold("down", mlp.down_proj.weight)
        hold("norm_in", layer.input_layernorm.weight)
        hold("norm_mid", layer.post_attention_layernorm.weight)
        self.change = nn.ModuleDict(
            {name: Change(getattr(self, name).shape[1], getattr(self, name).shape[0]) for name in CHANGED}
        )

    def product(self, name: str, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = F.linear(x, getattr(self, name)) + self.change[name](x, scale)
        return changed

    def forward(
        self,
        x: torch.Tensor,
        turns: tuple[torch.Tensor, torch.Tensor],
        scale: torch.Tensor,
        prefix: int,
        count: int,
    ) -> torch.Tensor:
        """`turns`: cosines and sines [P + n Q, head]; `count` questions behind `prefix` tokens."""
        rows, length, width = x.shape
        cos, sin = turns
        heads, shared, head = self.heads, self.shared, self.head
        qkv = self.product("qkv", rms(x, self.norm_in, self.eps), scale)
        qkv = qkv.view(rows, length, heads + 2 * shared, head)
        turned = qkv[:, :, : heads + shared]
        half = head // 2
        swapped = torch.cat((-turned[..., half:], turned[..., :half]), -1)
        turned = turned * cos[:, None] + swapped * sin[:, None]
        # Query heads that share a key head stand beside each other: [B, shared, tokens * group, head].
        q = turned[:, :, :heads].view(rows, length, shared, heads // shared, head).transpose(1, 2)
        k = turned[:, :, heads:].transpose(1, 2)
        v = qkv[:, :, heads + shared :].transpose(1, 2)
        said = _attend(q * head**-0.5, k, v, prefix, count)
        x = x + self.product("out", said.transpose(1, 2).reshape(rows, length, width), scale)
        gate, up = F.linear(rms(x, self.norm_mid, self.eps), self.gate_up).chunk(2, -1)
        return x + self.product("down", F.silu(gate) * up, scale)


def rms(x: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    wide = x.float()
    return gain * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, prefix: int, count: int) -> torch.Tensor:
    """q [B, S, T, group, head], k and v [B, S, T, head] -> [B, S, T, group, head]."""
    rows, shared, length, group, head = q.shape
    pk, pv = k[:, :, :prefix], v[:, :, :prefix]
    pq = q[:, :, :prefix].reshape(rows, shared, prefix * group, head)
    seen = pq @ pk.transpose(-1, -2)
    hidden = _later(prefix, group, q.device)
    said = torch.softmax(seen.float().masked_fill(hidden, -1e9), -1).to(q.dtype) @ pv
    said = said.view(rows, shared, prefix, group, head)
    if count == 0:
        return said
    size = (length - prefix) // count
    qq = q[:, :, prefix:].reshape(rows, shared, count * size * group, head)
    far = (qq @ pk.transpose(-1, -2)).view(rows, shared, count, size * group, prefix)
    own = qq.view(rows, shared, count, size * group, head)
    ok = k[:, :, prefix:].reshape(rows, shared, count, size, head)
    ov = v[:, :, prefix:].reshape(rows, shared, count, size, head)
    near = (own @ ok.transpose(-1, -2)).float().masked_fill(_later(size, group, q.device), -1e9)
    weights = torch.softmax(torch.cat((far.float(), near), -1), -1).to(q.dtype)
    far, near = weights.split((prefix, size), -1)
    behind = far.reshape(rows, shared, count * size * group, prefix) @ pv
    behind = behind.view(rows, shared, count, size * group, head) + near @ ov
    return torch.cat((said, behind.view(rows, shared, count * size, group, head)), 2)


def _later(size: int, group: int, device: torch.device) -> torch.Tensor:
    """bool [size * group, size]: keys behind the query."""
    query = torch.arange(size, device=device).repeat_interleave(group)
    return torch.arange(size, device=device)[None] > query[:, None]


class Decoder(nn.Module):
    """The published decoder without its embedding table; only the changes are parameters."""

    def __init__(self, published: Any) -> None:
        super().__init__()
        config = published.config
        self.layers = nn.ModuleList(Layer(layer, config) for layer in published.model.layers)
        self.eps = config.rms_norm_eps
        self.register_buffer(
            "norm", published.model.norm.weight.detach().to(torch.bfloat16), persistent=False
        )
        table = published.model.embed_tokens.weight.detach().to(torch.bfloat16).clone()
        self.register_buffer("table", table, persistent=False)
        base, head = config.rope_parameters["rope_theta"], config.head_dim
        self.speeds = torch.exp(-torch.arange(0, head, 2) / head * math.log(base))

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, prefix: int, count: int, *, changed: bool = True
    ) -> torch.Tensor:
        """x [B, T, width] bfloat16, positions [T] -> what the head reads, [B, T, width]."""
        angles = positions[:, None].float() * self.speeds
        angles = torch.cat((angles, angles), -1)
        turns = (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        scale = torch.tensor(float(changed), dtype=x.dtype)
        for layer in self.layers:
            x = layer(x, turns, scale, prefix, count)
        return rms(x, self.norm, self.eps)


def merged(weights: Mapping[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Differences B A by the name of the weight that they are added to: `layers.N.self_attn.q_proj.weight`.

    `weights`: the changes by their names in `Decoder`, `layers.N.change.qkv.a` and so on.
    """
    found: dict[str, torch.Tensor] = {}
    for layer in range(layers):
        for name, parts in CHANGED.items():
            a, b = (weights[f"layers.{layer}.change.{name}.{side}"].float() for side in "ab")
            whole = b @ a
            width = whole.shape[1]
            sizes = [width, width // 3, width // 3] if len(parts) == 3 else [whole.shape[0]]
            for part, piece in zip(parts, whole.split(sizes), strict=True):
                found[f"layers.{layer}.{part}.weight"] = piece
    return found
