"""Samples on their way through the decoder, the dense model and the slim one side by side, layer by layer.

What a cut's repair is fitted to is read off where they stand: the slim stream as it was repaired before, and
the dense stream behind the cut. So all cuts together take one pass over the weights. Streams that are more
than some memory wait in a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from topovlm.checkpoint.live import Live
from topovlm.checkpoint.verify import relative_difference
from topovlm.choose.repair.patch import Cut, Gram, token_weights
from topovlm.choose.rollouts import Rollouts, stream_of
from topovlm.choose.spill import Spill
from topovlm.choose.sweep import Entered, Streams, Variant, enter, other_projection, sweep

# Relative difference up to which two ways to compute a block in half precision are the same.
_SAME = 0.02
_STREAM_BYTES = 1 << 30  # of both models' streams that are in memory while they wait


class Front:
    """Both models before layer `layer`. `repaired` is what the slim one has instead of its down-projections
    [d, m]; whoever adds to it does so before the layer has been passed."""

    def __init__(
        self, live: Live, rollouts: Sequence[Rollouts], drop: Sequence[int], stream_bytes: int = _STREAM_BYTES
    ) -> None:
        self.live, self.drop, self.layer = live, frozenset(drop), 0
        self._keep = Spill(stream_bytes)
        self.repaired: dict[int, torch.Tensor] = {}
        self._ids = [part.batch["input_ids"] for part in rollouts]
        self._real = [part.real for part in rollouts]
        self._batches: list[Entered] = []
        self._dense: Streams = []
        with live.ends(head=False):
            for part in rollouts:
                batch = enter(live, part.batch)
                self._dense.append(self._keep(batch.stream))
                self._batches.append(replace(batch, stream=batch.stream[:0]))  # it is given from here on
        self._slim = self._dense

    def advance(self, layer: int) -> None:
        """Take both to `layer`."""
        self._dense, self._slim = sweep(
            self.live,
            self._batches,
            [Variant(), Variant(self.drop, self.repaired)],
            start=self.layer,
            stop=layer,
            streams=[self._dense, self._slim],
            keep=self._keep,
        )
        self.layer = layer

    @torch.inference_mode()
    def gather(self, cut: Cut, visual_weight: float) -> Gram:
        """Gram matrices of a cut; both stand before its anchor, and stay there."""
        behind = sweep(
            self.live,
            self._batches,
            [Variant()],
            start=cut.anchor,
            stop=cut.last + 1,
            streams=[self._dense],
            keep=self._keep,
        )[0]
        live, inners = self.live, list[torch.Tensor]()
        down, block = live.down_projection(cut.anchor), live.blocks[cut.anchor]
        inner = torch.zeros(down.in_features, down.in_features, dtype=torch.float64, device=live.device)
        cross = torch.zeros(down.in_features, down.out_features, dtype=torch.float64, device=live.device)
        tokens = 0
        handle = down.register_forward_pre_hook(lambda _module, args: inners.append(args[0]))
        try:
            with live.weights.held(block.parameters()):
                for number, batch in enumerate(self._batches):
                    stream = stream_of(block(self._slim[number], **batch.arguments[cut.anchor]))
                    # Some families add features of pictures behind the anchor, and behind layers that go.
                    for layer in range(cut.anchor, cut.last + 1):
                        stream = stream + batch.added[layer] if layer in batch.added else stream
                    weights = token_weights(
                        self._ids[number],
                        self._real[number],
                        entering=stream,
                        leaving=behind[number],
                        image_token_id=live.image_token_id,
                        bos_token_id=live.tokenizer.bos_token_id,
                        visual_weight=visual_weight,
                    )
                    rows = weights > 0
                    held = inners.pop()[rows].double()
                    scaled = held * weights[rows, None]
                    inner.addmm_(scaled.T, held)
                    cross.addmm_(scaled.T, (behind[number] - stream)[rows].double())
                    tokens += int(rows.sum())
        finally:
            handle.remove()
        return Gram(inner, cross, tokens)

    @torch.inference_mode()
    def ends_in_its_projection(self) -> bool:
        """Whether the block of this layer gives W a plus what W has no part in: not with experts, nor with a
        norm behind W."""
        live, inners = self.live, list[torch.Tensor]()
        try:
            down = live.down_projection(self.layer)
        except LookupError:
            return False
        block, stream = live.blocks[self.layer], self._slim[0]
        arguments: Mapping[str, object] = self._batches[0].arguments[self.layer]
        with live.weights.held(block.parameters()):
            handle = down.register_forward_pre_hook(lambda _module, args: inners.append(args[0]))
            try:
                output = stream_of(block(stream, **arguments))
            finally:
                handle.remove()
            with other_projection(live, self.layer, 2 * down.weight.data):
                doubled = stream_of(block(stream, **arguments))
            expected = output + functional.linear(inners[0], down.weight)
        return relative_difference(doubled, expected) < _SAME
