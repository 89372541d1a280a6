"""Samples on their way through the decoder, the dense model and slim ones side by side, layer by layer.

What a cut's repair is fitted to is read off where they stand: the slim stream as it was repaired before, and
the dense stream behind the cut. So all cuts of all slim models together take one pass of each. Streams that
are more than some memory wait in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from topovlm.checkpoint.live import Live
from topovlm.checkpoint.verify import relative_difference
from topovlm.choose.repair.patch import Cut, Gram, token_weights, weighed
from topovlm.choose.repair.strengths import PASSED_BYTES
from topovlm.choose.rollouts import Rollouts, stream_of
from topovlm.choose.spill import Spill
from topovlm.choose.sweep import Entered, Streams, Variant, enter, other_projection, sweep

# Relative difference up to which two ways to compute a block in half precision are the same.
_SAME = 0.02
_STREAM_BYTES = 1 << 30  # of all models' streams that are in memory while they wait


def entering(live: Live, rollouts: Iterable[Rollouts]) -> list[Entered]:
    """The batches before the first block, without their pictures."""
    keep, found = Spill(_STREAM_BYTES), list[Entered]()
    with live.ends():
        for part in rollouts:
            batch = enter(live, part.batch)
            found.append(replace(batch, stream=keep(batch.stream)))
    return found


@dataclass(frozen=True)
class _Passed:
    """What left a block [B, T, width], and what its down-projection was given [B, T, m]."""

    stream: torch.Tensor
    inner: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.stream.nbytes + self.inner.nbytes


class Front:
    """The dense model and those without the layers of each of `drops`, before layer `layer`.

    `repaired`, by slim model: what it has instead of its down-projections [d, m]; whoever adds to it does so
    before the layer has been passed. Slim models are named by their number in `drops`.
    """

    def __init__(
        self,
        live: Live,
        drops: Sequence[Sequence[int]],
        fit: Sequence[Entered],
        tune: Sequence[Entered] = (),
        *,
        visual_weight: float = 0.1,
        massive_stay: bool = True,
        stream_bytes: int = _STREAM_BYTES,
    ) -> None:
        batches = [*fit, *tune]
        self.live, self.layer = live, 0
        self.repaired: list[dict[int, torch.Tensor]] = [{} for _ in drops]
        self._drops = [frozenset(drop) for drop in drops]
        self._fit, self._tune = range(len(fit)), range(len(fit), len(batches))
        self._visual_weight, self._massive_stay = visual_weight, massive_stay
        self._keep = Spill(stream_bytes)
        streams = [batch.stream for batch in batches]
        # Streams are given to every sweep from here on.
        self._batches = [replace(batch, stream=batch.stream[:0]) for batch in batches]
        self._dense: dict[int, Streams] = {0: streams}  # by the layer that they enter
        self._slim: list[Streams] = [streams] * len(drops)
        self._passed: dict[tuple[int, int], _Passed] = {}  # by slim model and batch

    def advance(self, layer: int) -> None:
        """Take all to `layer`. Up to where they differ from it, slim models are the dense one."""
        variants = [Variant(drop, kept) for drop, kept in zip(self._drops, self.repaired, strict=True)]
        apart = [n for n, one in enumerate(variants) if one.first_difference(self.live.layers) < layer]
        streams = {number: self._slim[number] for number in apart}
        if self.layer < layer:
            # One layer on: some were seen at this one and need not run again.
            seen = {number: self._behind(number) for number in apart if self._has_passed(number)}
            others = {number: stream for number, stream in streams.items() if number not in seen}
            streams = seen | self._swept(others, variants, self.layer, self.layer + 1)
            self._passed = {}
            streams = self._swept(streams, variants, self.layer + 1, layer)
        self._slim = [self._dense_at(layer)] * len(variants)
        for number, found in streams.items():
            self._slim[number] = found
        self.layer = layer
        for passed in [known for known in self._dense if known < layer]:
            del self._dense[passed]

    def _swept(
        self, streams: Mapping[int, Streams], variants: Sequence[Variant], start: int, stop: int
    ) -> dict[int, Streams]:
        """By slim model what enters `stop`, of what enters `start`."""
        found = sweep(
            self.live,
            self._batches,
            [variants[number] for number in streams],
            start=start,
            stop=stop,
            streams=list(streams.values()),
            keep=self._keep,
        )
        return dict(zip(streams, found, strict=True))

    def _has_passed(self, number: int) -> bool:
        """Whether what left the layer where all stand is known of this model and every batch."""
        return all((number, place) in self._passed for place in range(len(self._batches)))

    @torch.inference_mode()
    def _behind(self, number: int) -> Streams:
        """What enters the next layer of a model that was seen at this one, its repair in place."""
        changed = self.repaired[number].get(self.layer)
        difference = None
        if changed is not None:
            down = self.live.down_projection(self.layer)
            with self.live.weights.held(down.parameters()):
                difference = changed.to(down.weight).float() - down.weight.data.float()
        streams: Streams = []
        for place, batch in enumerate(self._batches):
            passed = self._passed.pop((number, place))
            stream = passed.stream
            if difference is not None:
                stream = stream + functional.linear(passed.inner.float(), difference).to(stream)
            if self.layer in batch.added:
                stream = stream + batch.added[self.layer]
            streams.append(self._keep(stream))
        return streams

    def _dense_at(self, layer: int) -> Streams:
        """What enters `layer` of the dense model; from where it stands on, all of that is kept."""
        for before in range(max(self._dense), layer):
            (self._dense[before + 1],) = sweep(
                self.live,
                self._batches,
                [Variant()],
                start=before,
                stop=before + 1,
                streams=[self._dense[before]],
                keep=self._keep,
            )
            if before < self.layer:
                del self._dense[before]
        return self._dense[layer]

    def gather(self, number: int, *cuts: Cut) -> Gram:
        """Gram matrices of cuts of one slim model that share an anchor, of the samples that fit. All stand
        before the anchor, and stay there."""
        live, down = self.live, self.live.down_projection(cuts[0].anchor)
        inner = torch.zeros(down.in_features, down.in_features, dtype=torch.float64, device=live.device)
        cross = inner.new_zeros(down.in_features, len(cuts) * down.out_features)
        tokens, fixed = 0, [inner.new_zeros(0, down.in_features)]
        for held, missing, weights, stays in self._seen(number, cuts, self._fit):
            # A batch's products err no more than its float32 streams do; sums of many would.
            scaled = (held.float() * weights[:, None].float()).T
            inner += scaled @ held.float()
            cross += scaled @ missing.float()
            if self._massive_stay:
                fixed.append(stays)
            tokens += len(weights)
        return Gram(inner, cross, weighed(torch.cat(fixed), inner), tokens)

    def errors(self, number: int, cut: Cut, projections: Sequence[torch.Tensor]) -> list[float]:
        """What each of these instead of the anchor's down-projection leaves of what is missing behind a cut:
        squared and weighted, of the samples that tune; a part of what the model leaves as it is."""
        own = self.live.down_projection(cut.anchor)
        with self.live.weights.held(own.parameters()):
            dense = own.weight.data.float()
        left, before = [0.0] * len(projections), 0.0
        for held, missing, weights, _ in self._seen(number, [cut], self._tune):
            before += float(weights @ missing.float().square().sum(1).double())
            for at, projection in enumerate(projections):
                rest = missing - functional.linear(held.float(), projection.float() - dense)
                left[at] += float(weights @ rest.square().sum(1).double())
        return [one / before if before else 1.0 for one in left]

    @torch.inference_mode()
    def _seen(
        self, number: int, cuts: Sequence[Cut], batches: range
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """By batch, of the tokens that count: what the down-projection reads [n, m], what is missing behind
        the cuts [n, cuts * d], and their weights, float64 [n]; and what it reads of those that must stay."""
        behind = {last: self._dense_at(last + 1) for last in sorted({cut.last for cut in cuts})}
        live, anchor = self.live, cuts[0].anchor
        with live.weights.held(live.blocks[anchor].parameters()):
            for place in batches:
                batch, passed = self._batches[place], self._through_anchor(number, place, anchor)
                # Some families add features of pictures behind the anchor, and behind layers that go.
                stream, without = passed.stream, dict[int, torch.Tensor]()
                for layer in range(anchor, max(behind) + 1):
                    stream = stream + batch.added[layer] if layer in batch.added else stream
                    without[layer] = stream
                weights, stays = token_weights(
                    batch.ids,
                    batch.real,
                    streams=[one for last in behind for one in (without[last], behind[last][place])],
                    visual=live.is_visual(batch.ids),
                    bos_token_id=live.tokenizer.bos_token_id,
                    visual_weight=self._visual_weight,
                )
                rows = weights > 0
                missing = [(behind[cut.last][place] - without[cut.last])[rows] for cut in cuts]
                yield passed.inner[rows], torch.cat(missing, -1), weights[rows], passed.inner[stays]

    def _through_anchor(self, number: int, place: int, anchor: int) -> _Passed:
        """One batch of one model through the layer before which all stand; kept where there is room."""
        found = self._passed.get((number, place))
        if found is None:
            inners: list[torch.Tensor] = []
            block, given = self.live.blocks[anchor], self._batches[place].arguments[anchor]
            handle = self.live.down_projection(anchor).register_forward_pre_hook(
                lambda _module, args: inners.append(args[0])
            )
            try:
                stream = stream_of(block(self._slim[number][place], **given))
            finally:
                handle.remove()
            found = _Passed(stream, inners.pop())
            held = sum(one.nbytes for one in self._passed.values())
            if self._drops[number] and held + found.nbytes <= PASSED_BYTES:
                self._passed[number, place] = found
        return found

    @torch.inference_mode()
    def ends_in_its_projection(self) -> bool:
        """Whether the block of this layer gives W a plus what W has no part in: not with experts, nor with a
        norm behind W."""
        live, inners = self.live, list[torch.Tensor]()
        try:
            down = live.down_projection(self.layer)
        except LookupError:
            return False
        block, stream = live.blocks[self.layer], self._slim[0][0]
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
