"""The judge: how far a slim model's answer distribution is from the dense model's, on held-out samples.

KL(dense || slim) in nats per answer token, the dense model's own greedy answers being forced on both. Layers
are bypassed in memory, and the residual stream before the first cut is taken from a cache. Of the dense
answers only the residual streams are kept: the head makes distributions of them some rows at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from topovlm.checkpoint.live import Live, bypassed, last_stream_and_logits
from topovlm.checkpoint.verify import RELATIVE_TOLERANCE, relative_difference
from topovlm.choose.rollouts import Arguments, Rollouts, recorded_blocks, roll_out, stream_of
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.families.layers import refuse_tied_layers, tied_layers
from topovlm.samples import Sample

# Logits of one model that are in memory at a time; a few tensors of this size are alive together.
_HEAD_BYTES = 32 << 20
_TOLERANCE = {torch.float32: RELATIVE_TOLERANCE, torch.float64: RELATIVE_TOLERANCE}


@dataclass(frozen=True)
class _Batch:
    """What is kept of one batch. `rows`, `positions` [n]: the places that predict answer tokens; `samples`
    [B]: indices into the caller's list; `arguments`: of each block, one copy for all blocks that were given
    the same; `added`: what the family adds to the stream behind a block; `answers` [n, width]: the dense
    stream after the last block at those places; `streams`: the dense stream [B, T, width] that enters a
    layer, for those that a judgement can start from."""

    rows: torch.Tensor
    positions: torch.Tensor
    samples: tuple[int, ...]
    arguments: tuple[Arguments, ...]
    added: dict[int, torch.Tensor]
    answers: torch.Tensor
    streams: dict[int, torch.Tensor]

    @property
    def held_bytes(self) -> int:
        values = [value for arguments in self.arguments for value in arguments.values()]
        streams = [self.answers, *self.added.values(), *self.streams.values()]
        return _bytes_of([self.rows, self.positions, *streams, *values])


class Judge:
    """Built once per set of held-out samples; then `kl(drop)` for as many sets of layers as wanted.

    `cache_bytes` bounds all that is kept between judgements: with less, fewer layers are start points. What
    no judgement can do without is kept in any case: the streams that enter layer 0, the blocks' arguments and
    the dense answers' streams.
    """

    def __init__(
        self,
        live: Live,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 32,
        batch_size: int = 8,
        cache_bytes: int = 1 << 30,
        progress: Progress | None = None,
    ) -> None:
        self.live = live
        self.samples = len(samples)
        self._known: dict[frozenset[int], np.ndarray] = {}
        self._config = live.model.config.to_dict()
        self._batches: list[_Batch] = []
        for rollouts in roll_out(
            live, samples, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
        ):
            self._batches.append(_dense(live, rollouts))
            if len(self._batches) == 1:
                self._check_itself(rollouts)
        self._starts = self._cache_streams(cache_bytes)
        self._head_rows = max(1, _HEAD_BYTES // self._bytes_of_a_distribution())

    def kl(self, drop: Collection[int]) -> float:
        """Mean over samples of the mean over answer tokens of KL(dense || slim), in nats."""
        return float(self.kl_per_sample(drop).mean())

    def kl_per_sample(self, drop: Collection[int]) -> np.ndarray:
        """float64 [samples], in the order given; remembered, so a set is run once."""
        key = frozenset(drop)
        refuse_tied_layers(self._config, self.live.parts.family, sorted(key))
        if key not in self._known:
            self._known[key] = self._run(key, min(key, default=self.live.layers - 1))
        return self._known[key]

    def kl_of_changed_weights(self, drop: Collection[int], first_changed: int) -> float:
        """As `kl`, for weights that differ from the dense model's in layers from `first_changed` on."""
        return float(self._run(frozenset(drop), min(first_changed, *drop)).mean())

    @torch.inference_mode()
    def _cache_streams(self, cache_bytes: int) -> range:
        """Keep the streams that enter evenly spaced layers, as many as there is room for; always layer 0."""
        room = cache_bytes - sum(batch.held_bytes for batch in self._batches)
        one_layer = sum(_bytes_of(batch.streams.values()) for batch in self._batches)
        count = 1 + max(0, room) // one_layer
        starts = range(0, self.live.layers, -(-self.live.layers // count))
        for batch in self._batches:
            for start, following in pairwise(starts):
                batch.streams[following] = self._stream(batch, (), start, following)
        return starts

    def _bytes_of_a_distribution(self) -> int:
        """One row of float32 logits."""
        return 4 * int(self._log_probabilities(self._batches[0].answers[:1]).shape[-1])

    @torch.inference_mode()
    def _run(self, drop: frozenset[int], first_difference: int) -> np.ndarray:
        values = np.zeros(self.samples)
        start = max(layer for layer in self._starts if layer <= first_difference)
        for batch in self._batches:
            slim = self._stream(batch, drop, start, self.live.layers)[batch.rows, batch.positions]
            divergence = torch.cat(list(self._divergences(batch.answers, slim)))
            totals = torch.zeros(len(batch.samples), dtype=torch.float64, device=divergence.device)
            counts = torch.zeros_like(totals)
            totals.index_add_(0, batch.rows, divergence)
            counts.index_add_(0, batch.rows, torch.ones_like(divergence))
            values[list(batch.samples)] = (totals / counts).cpu().numpy()
        return values

    def _stream(self, batch: _Batch, drop: Collection[int], start: int, stop: int) -> torch.Tensor:
        """The stream [B, T, width] that enters layer `stop`, run from layer `start` without `drop`."""
        return self._through(batch, batch.streams[start], drop, range(start, stop))

    def _through(
        self, batch: _Batch, hidden: torch.Tensor, drop: Collection[int], layers: range
    ) -> torch.Tensor:
        for layer in layers:
            if layer not in drop:
                hidden = stream_of(self.live.blocks[layer](hidden, **batch.arguments[layer]))
            if layer in batch.added:
                hidden = hidden + batch.added[layer]
        return hidden

    @torch.inference_mode()
    def _check_itself(self, rollouts: Rollouts) -> None:
        """Blocks one by one, without some, give what the model gives with those bypassed; else `InputError`.

        Blocks that read more than the stream and their arguments (keys and values of another layer) would be
        judged wrong, and so would a head that does more than `Live.logits`.
        """
        family = self.live.parts.family
        tied = tied_layers(self._config, family)
        probe = [layer for layer in range(self.live.layers) if layer not in tied][1::2]
        remedy = "Layers of this model cannot be removed safely"
        if not self._agrees(rollouts, probe):
            layer = next((layer for layer in probe if not self._agrees(rollouts, [layer])), probe)
            rule = f"without it, this {family.model_type} model is not its other blocks one by one"
            raise InputError(explain("layer", layer, rule, remedy))
        reader = self._reader_of_others()
        if reader is not None:
            rule = f"this block of a {family.model_type} model reads more than the stream that enters it"
            raise InputError(explain("layer", reader, rule, remedy))

    def _agrees(self, rollouts: Rollouts, drop: Sequence[int]) -> bool:
        """Whether stream and last logits without `drop` are those of the model with these bypassed."""
        ours = self._stream(self._batches[0], drop, 0, self.live.layers)
        with bypassed(self.live, drop):
            theirs, logits = last_stream_and_logits(self.live, rollouts.batch)
        return _same(ours, theirs) and _same(self.live.logits(ours[:, -1:]), logits)

    def _reader_of_others(self) -> int | None:
        """A block of the later half that depends on what the earlier ones last saw, beside the stream."""
        batch, half = self._batches[0], self.live.layers // 2
        hidden = self._stream(batch, (), 0, half)
        dense = [hidden]
        for layer in range(half, self.live.layers):
            dense.append(self._through(batch, dense[-1], (), range(layer, layer + 1)))
        self._through(batch, 2 * batch.streams[0], (), range(half))
        for layer, (entering, leaving) in enumerate(pairwise(dense), half):
            if not _same(self._through(batch, entering, (), range(layer, layer + 1)), leaving):
                return layer
        return None

    def _divergences(self, dense: torch.Tensor, slim: torch.Tensor) -> Iterator[torch.Tensor]:
        """KL of each row of two streams [n, width] after the last block: float64, block by block."""
        for start in range(0, len(dense), self._head_rows):
            block = slice(start, start + self._head_rows)
            log_p, log_q = self._log_probabilities(dense[block]), self._log_probabilities(slim[block])
            yield (log_p.exp() * (log_p - log_q)).sum(-1).double().clamp_min(0)

    @torch.inference_mode()
    def _log_probabilities(self, answers: torch.Tensor) -> torch.Tensor:
        """float32 [n, vocabulary] of streams [n, width] after the last block."""
        return self.live.logits(answers).float().log_softmax(-1)


def _dense(live: Live, rollouts: Rollouts) -> _Batch:
    """One pass of the dense model; its pictures and padding are not kept."""
    seen = recorded_blocks(live, rollouts.batch)
    return _Batch(
        rows=rollouts.rows,
        positions=rollouts.positions,
        samples=rollouts.samples,
        arguments=_shared(seen.arguments),
        added=seen.added,
        answers=seen.leaving[rollouts.rows, rollouts.positions],
        streams={0: seen.entering},
    )


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return relative_difference(ours, theirs) <= _TOLERANCE.get(ours.dtype, 0.02)


def _shared(arguments: Iterable[Arguments]) -> tuple[Arguments, ...]:
    """The same, one object for all blocks whose arguments are the same objects (layers of a kind)."""
    known: dict[tuple[tuple[str, int], ...], Arguments] = {}
    return tuple(
        known.setdefault(tuple((name, id(value)) for name, value in kwargs.items()), kwargs)
        for kwargs in arguments
    )


def _bytes_of(values: Iterable[object]) -> int:
    """Memory of the tensors among `values`, also in tuples and lists; a storage counts once."""
    found: dict[int, int] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, (tuple, list)):
            waiting += value
    return sum(found.values())
