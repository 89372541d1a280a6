"""Many variants of a decoder in one pass over its weights.

A variant leaves layers out, or gives a layer another down-projection. Variants that agree up to a layer share
one stream up to there, and every layer is brought into memory once for all streams of all batches: judging
many sets of layers costs as many passes over the weights as judging one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from topovlm.checkpoint.live import Live, bypassed
from topovlm.choose.rollouts import Arguments, recorded_blocks, stream_of


@dataclass(frozen=True)
class Variant:
    """The decoder without the layers `drop`, and with other down-projections [d, m] in some layers."""

    drop: frozenset[int] = frozenset()
    weights: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def first_difference(self, layers: int) -> int:
        """The first layer that the dense model has otherwise; the number of layers where there is none."""
        return min([*self.drop, *self.weights], default=layers)


@dataclass(frozen=True)
class Entered:
    """A batch at the first block: the stream that enters it [B, T, width], what each block is given besides,
    and what the family adds to the stream behind a block; its tokens, and which are no padding [B, T]."""

    stream: torch.Tensor
    arguments: tuple[Arguments, ...]
    added: Mapping[int, torch.Tensor]
    ids: torch.Tensor
    real: torch.Tensor


def neighbours_first(variants: Sequence[Variant], layers: int) -> list[int]:
    """Numbers of the variants in an order in which neighbours agree the longest."""
    return sorted(range(len(variants)), key=lambda n: [layer in variants[n].drop for layer in range(layers)])


# Streams of all batches, in their order.
Streams = list[torch.Tensor]
# Is told of a layer, the variants (by index) of one stream, the batch and the stream that leaves the layer.
Visit = Callable[[int, tuple[int, ...], int, torch.Tensor], None]
Keep = Callable[[torch.Tensor], torch.Tensor]


def enter(live: Live, batch: dict[str, torch.Tensor]) -> Entered:
    """Pictures, embeddings, masks and positions of a right-padded batch; no block runs."""
    with bypassed(live, range(live.layers)):
        seen = recorded_blocks(live, batch)
    real = batch["attention_mask"].bool()
    return Entered(seen.entering, tuple(seen.arguments), seen.added, batch["input_ids"], real)


def outside_inference(value: Any) -> Any:
    """A copy outside of inference mode, whose tensors no gradient may be computed with: of a tensor, or of
    all in what a block is given."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: outside_inference(part) for name, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(outside_inference, value))
    return value


@torch.inference_mode()
def sweep(
    live: Live,
    batches: Sequence[Entered],
    variants: Sequence[Variant],
    *,
    start: int = 0,
    stop: int | None = None,
    streams: Sequence[Streams] | None = None,
    visit: Visit | None = None,
    keep: Keep | None = None,
) -> list[Streams]:
    """What enters layer `stop` (default: leaves the last), by variant and batch.

    `streams`: what enters layer `start`, by variant; those with the same list still agree. Variants that
    agree to the end share their tensors. `keep`: where a stream is until the next layer (`spill`).
    """
    stop = live.layers if stop is None else stop
    given = [[batch.stream for batch in batches]] * len(variants) if streams is None else streams
    groups = _agreeing(given)
    for layer in range(start, stop):
        parts = [part for group in groups for part in _parted(group, variants, layer)]
        if parts and layer + 1 < stop:
            live.weights.ahead(live.blocks[layer + 1].parameters())
        used = any(runs for _, _, runs in parts)
        with live.weights.held(live.blocks[layer].parameters()) if used else contextlib.nullcontext():
            groups = [
                (members, [keep(one) if keep else one for one in passing])
                for members, held, runs in parts
                for passing in [_through(live, layer, batches, held, variants[members[0]] if runs else None)]
            ]
        if visit is not None:
            for members, held in groups:
                for number, stream in enumerate(held):
                    visit(layer, members, number, stream)
    found: dict[int, Streams] = {member: held for members, held in groups for member in members}
    return [found[number] for number in range(len(variants))]


def _agreeing(streams: Sequence[Streams]) -> list[tuple[tuple[int, ...], Streams]]:
    """Variants by the list that they begin with, each a copy: it will be used up."""
    found: dict[int, list[int]] = {}
    for number, held in enumerate(streams):
        found.setdefault(id(held), []).append(number)
    return [(tuple(members), list(streams[members[0]])) for members in found.values()]


def _parted(
    group: tuple[tuple[int, ...], Streams], variants: Sequence[Variant], layer: int
) -> list[tuple[tuple[int, ...], Streams, bool]]:
    """One stream's variants, by what they do with a layer: (variants, the stream before, whether it runs)."""
    members, held = group
    found: dict[tuple[bool, int], list[int]] = {}
    for member in members:
        variant = variants[member]
        runs = layer not in variant.drop
        other = variant.weights.get(layer) if variant else None
        found.setdefault((runs, 0 if other is None else id(other)), []).append(member)
    last = len(found) - 1
    return [
        # Who comes last may use the list up: streams go as the new ones come.
        (tuple(some), held if number == last else list(held), runs)
        for number, ((runs, _), some) in enumerate(found.items())
    ]


def _through(
    live: Live, layer: int, batches: Sequence[Entered], held: Streams, variant: Variant | None
) -> Iterator[torch.Tensor]:
    """The streams of all batches behind a layer; `variant`: whose layer runs, None where it is left out."""
    other = variant.weights.get(layer) if variant else None
    with other_projection(live, layer, other):
        for number, batch in enumerate(batches):
            stream = held[number]
            held[number] = stream[:0]
            if variant:
                stream = stream_of(live.blocks[layer](stream, **batch.arguments[layer]))
            if layer in batch.added:
                stream = stream + batch.added[layer]
            yield stream


@contextlib.contextmanager
def other_projection(live: Live, layer: int, weight: torch.Tensor | None) -> Iterator[None]:
    """Within the block a layer that is held has the down-projection `weight` [d, m]; None: its own."""
    if weight is None:
        yield
        return
    down = live.down_projection(layer).weight
    own = down.data
    down.data = weight.to(own)
    try:
        yield
    finally:
        down.data = own
