"""Which weights of a slim model learn: the layers beside its cuts, norms, and the head if it is its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from topovlm.checkpoint.files import Checkpoint
from topovlm.checkpoint.live import Live
from topovlm.checkpoint.safetensors_file import TensorEntry
from topovlm.checkpoint.stored import TORCH_DTYPES, read_tensor
from topovlm.choose.heal.around import beside


@dataclass(frozen=True)
class Trainable:
    """`parameters` by the name of their tensor in the checkpoint; `layers`: those that learn as a whole, in
    dense numbering; `head`: whether the head does."""

    parameters: dict[str, nn.Parameter]
    layers: tuple[int, ...]
    head: bool

    @property
    def count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values())


def find_trainable(live: Live, checkpoint: Checkpoint, drop: Collection[int], layers: int) -> Trainable:
    """Of the slim model `live`, loaded from `checkpoint`: the dense model of so many `layers` less `drop`.

    Every parameter of the kept layers beside a cut, the norms of all layers from the first of these on, the
    norm behind the last layer, and the head, unless it is the table of words: that would change what every
    prompt is made of. Layers before the first cut give what the dense ones give, and stay. A parameter that
    is no tensor of the checkpoint as it stands (experts that are joined when they are loaded) stays, too.
    """
    learners = beside(drop, layers)
    kept = [layer for layer in range(layers) if layer not in drop]
    found: dict[str, nn.Parameter] = {}
    whole = []
    for place, layer in enumerate(kept):
        if layer < learners[0]:
            continue
        block = live.blocks[place]
        asked = block.named_parameters() if layer in learners else _norms(block)
        named = {f"{checkpoint.layer_prefix}{place}.{name}": value for name, value in asked}
        stored = {name: value for name, value in named.items() if _is_stored(checkpoint, name, value)}
        found |= stored
        if layer in learners and stored:
            whole.append(layer)
    found |= _outside(checkpoint, live.parts.decoder.norm, live.norm)
    words = {id(parameter) for parameter in live.parts.embedding.parameters()}
    head = {}
    if not words & {id(parameter) for parameter in live.head.parameters()}:
        name = next(name for name, module in live.model.named_modules() if module is live.head)
        head = _outside(checkpoint, name.rpartition(".")[2], live.head)
    return Trainable({**found, **head}, tuple(whole), bool(head))


def _norms(block: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    for path, module in block.named_modules():
        if "norm" in type(module).__name__.lower():
            yield from ((f"{path}.{name}", value) for name, value in module.named_parameters(recurse=False))


def _outside(checkpoint: Checkpoint, path: str, module: nn.Module) -> dict[str, nn.Parameter]:
    """A module's parameters by their tensors, which end in its path and hold its very values: checkpoints of
    different age name what lies around the layers differently."""
    found = {}
    for name, value in module.named_parameters():
        end = f"{path}.{name}"
        for tensor in checkpoint.tensors:
            ours = checkpoint.layer_of(tensor) is None and f".{tensor}".endswith(f".{end}")
            if ours and _is_stored(checkpoint, tensor, value):
                found[tensor] = value
                break
    return found


def _is_stored(checkpoint: Checkpoint, name: str, parameter: nn.Parameter) -> bool:
    """Whether the tensor is this parameter, number by number."""
    entry: TensorEntry | None = checkpoint.tensors.get(name)
    if entry is None or entry.dtype not in TORCH_DTYPES or entry.shape != tuple(parameter.shape):
        return False
    return torch.equal(read_tensor(entry).to(parameter.dtype), parameter.detach().cpu())
