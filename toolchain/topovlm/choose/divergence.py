"""How far two models' distributions of the next token are apart, place by place."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Apart(NamedTuple):
    """float64 [n] each: KL(dense || slim), KL(slim || dense), in nats, and 1 where both choose one token."""

    kl: torch.Tensor
    reverse: torch.Tensor
    same: torch.Tensor


def apart(log_p: torch.Tensor, log_q: torch.Tensor) -> Apart:
    """Of log probabilities [n, vocabulary], the dense model's first."""
    ahead = log_p - log_q
    return Apart(
        (log_p.exp() * ahead).sum(-1).double().clamp_min(0),
        -(log_q.exp() * ahead).sum(-1).double().clamp_max(0),
        (log_p.argmax(-1) == log_q.argmax(-1)).double(),
    )


def behind_one_another(parts: list[Apart]) -> Apart:
    return Apart(*(torch.cat(column) for column in zip(*parts, strict=True)))
