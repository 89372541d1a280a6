"""Smaller weights instead of fewer layers: the decoder as the exported int8 and int4 graphs compute it.

Rounded in torch by the rules of `exporters.onnx.quantize`: int8 per output channel with activations in 8 bits
per tensor, int4 in blocks of 32 weights that share a scale. Embeddings and the tower stay as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.checkpoint.live import Live
from topovlm.choose.sweep import Variant

_BLOCK = 32


def int4(weight: torch.Tensor) -> torch.Tensor:
    """Of [out, in]: the value of the largest size in each block of 32 inputs is -8."""
    rows, width = weight.shape
    room = -width % _BLOCK
    blocks = nn.functional.pad(weight.float(), (0, room)).view(rows, -1, _BLOCK)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = torch.where(largest == 0, torch.ones_like(largest), largest / -8)
    rounded = (blocks / scale).round().clamp(-8, 7) * scale
    return rounded.view(rows, -1)[:, :width].to(weight.dtype)


def int8(weight: torch.Tensor) -> torch.Tensor:
    """Of [out, in]: symmetric, a scale for each output."""
    scale = weight.float().abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return ((weight.float() / scale).round().clamp(-127, 127) * scale).to(weight.dtype)


def _activation(values: torch.Tensor) -> torch.Tensor:
    """In 256 steps from the smallest (0 at most) to the largest (0 at least) of the tensor."""
    low, high = values.amin().clamp(max=0).float(), values.amax().clamp(min=0).float()
    scale = ((high - low) / 255).clamp_min(1e-12)
    zero = (-low / scale).round()
    steps = (values.float() / scale + zero).round().clamp(0, 255)
    return ((steps - zero) * scale).to(values.dtype)


FORMATS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"int8": int8, "int4": int4}


def measured_in(subject: Subject, kind: str, variant: Variant) -> Outcome:
    """What a variant gives with weights of that format, those of its repair too."""
    weights = {layer: FORMATS[kind](weight) for layer, weight in variant.weights.items()}
    with rounded(subject.live, kind):
        (outcome,) = subject.measure([Variant(variant.drop, weights)])
    return outcome


@contextlib.contextmanager
def rounded(live: Live, kind: str) -> Iterator[None]:
    """Within the block the decoder's products, the head's too, have weights of that format."""
    parts = [*(part for block in live.blocks for part in block.modules()), live.head]
    products = [part for part in parts if isinstance(part, nn.Linear)]
    own = [part.weight for part in products]
    hooks = []
    try:
        for part in products:
            # A new parameter: a head may share its weights with the table of words, which stays.
            part.weight = nn.Parameter(FORMATS[kind](part.weight.data), requires_grad=False)
            if kind == "int8":
                hooks.append(
                    part.register_forward_pre_hook(lambda _part, args: (_activation(args[0]), *args[1:]))
                )
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for part, weight in zip(products, own, strict=True):
            part.weight = weight
