"""Vectors of a batch's tokens, read off the residual stream: of the stream itself, or normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from topovlm.checkpoint.live import Live
from topovlm.choose.clouds import Reading

_USUAL_EPS = 1e-6
_EPS_NAMES = ("variance_epsilon", "eps", "epsilon")


@dataclass(frozen=True)
class Norm:
    """What the model's norms do to a vector, their gain and bias aside: take away its mean (`centred`: those
    of the LayerNorm kind), and divide by the root of its mean square plus `eps`."""

    eps: float
    centred: bool

    def __call__(self, stream: torch.Tensor) -> torch.Tensor:
        """float32, of a stream [..., width]."""
        stream = stream.float()
        if self.centred:
            stream = stream - stream.mean(-1, keepdim=True)
        return stream * torch.rsqrt(stream.square().mean(-1, keepdim=True) + self.eps)


@torch.inference_mode()
def norm_of(live: Live) -> Norm:
    """Of the norm behind the last block, which is of the kind of those before the others.

    Asked, not looked up by name: a norm is centred if a constant added to a vector changes nothing.
    """
    norm = live.norm
    eps = next((float(getattr(norm, name)) for name in _EPS_NAMES if hasattr(norm, name)), _USUAL_EPS)
    width = live.model.config.get_text_config().hidden_size
    probe = torch.linspace(-1, 1, width, dtype=live.dtype, device=live.device)[None, None]
    with live.weights.held(norm.parameters()):
        here, there = norm(probe).float(), norm(probe + 4).float()
    return Norm(eps, bool((here - there).abs().max() < 0.1 * here.abs().max()))


class Reader:
    """The `readings` of one batch, given what leaves a block."""

    def __init__(
        self, live: Live, batch: dict[str, torch.Tensor], readings: Sequence[Reading], norm: Norm
    ) -> None:
        self._readings, self._norm = tuple(readings), norm
        kinds = {reading.token for reading in readings}
        visual = live.is_visual(batch["input_ids"])
        self._weights = {kind: _token_weights(batch, visual, kind) for kind in kinds}

    def __call__(self, stream: torch.Tensor) -> torch.Tensor:
        """float32 [readings, B, width] of a stream [B, T, width]. A mean is one of normalised vectors, not a
        normalised mean."""
        streams = {"residual": stream.float()}
        if any(reading.cloud == "normalised" for reading in self._readings):
            streams["normalised"] = self._norm(stream)
        return torch.stack(
            [
                torch.einsum("btd,bt->bd", streams[reading.cloud], self._weights[reading.token])
                for reading in self._readings
            ]
        )


def _token_weights(batch: dict[str, torch.Tensor], visual: torch.Tensor, kind: str) -> torch.Tensor:
    """float32 [B, T]: how much each position counts. Rows sum to one, or are zero without such a token."""
    mask = batch["attention_mask"].bool()
    if kind == "last":
        chosen = torch.zeros_like(mask)
        chosen[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1] = True
    else:
        chosen = mask & (visual if kind == "image-mean" else ~visual)
    weights = chosen.float()
    return weights / weights.sum(1, keepdim=True).clamp(min=1)
