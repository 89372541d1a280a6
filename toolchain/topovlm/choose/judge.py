"""The judge: how far a slim model's answer distribution is from the dense model's, on held-out samples.

KL(dense || slim) in nats per answer token, the dense model's own greedy answers being forced on both. Sets of
layers are judged side by side, in one pass over the weights, from where the first of them cuts on. Of the
dense answers only the residual streams are kept: the head makes distributions of them some rows at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from topovlm.checkpoint.live import Live, bypassed, collate, encode, last_stream_and_logits
from topovlm.checkpoint.verify import RELATIVE_TOLERANCE, relative_difference
from topovlm.choose.divergence import Apart, apart, behind_one_another
from topovlm.choose.judged import Judged, nothing_yet
from topovlm.choose.repair.patches import NO_PATCHES, Patches
from topovlm.choose.rollouts import Arguments, Rollouts, roll_out
from topovlm.choose.sweep import Entered, Streams, Variant, enter, neighbours_first, sweep
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
    [B]: indices into the caller's list; `entered`: what the first block is given; `answers` [n, width]: the
    dense stream after the last block at those places; `streams`: the dense stream [B, T, width] that enters a
    layer, for those that a judgement can start from."""

    rows: torch.Tensor
    positions: torch.Tensor
    samples: tuple[int, ...]
    entered: Entered
    answers: torch.Tensor
    streams: dict[int, torch.Tensor]

    @property
    def held_bytes(self) -> int:
        values = [value for arguments in self.entered.arguments for value in arguments.values()]
        streams = [self.answers, *self.entered.added.values(), *self.streams.values()]
        return _bytes_of([self.rows, self.positions, *streams, *values])


class Judge:
    """Built once per set of held-out samples; then `kls(drops)` for as many sets of layers as wanted.

    `cache_bytes` bounds all that is kept between judgements: with less, fewer layers are start points. What
    no judgement can do without is kept in any case: the streams that enter layer 0, the blocks' arguments and
    the dense answers' streams. As much again bounds the streams of sets that are judged at a time. `patches`:
    what every set's cuts are repaired with.
    """

    def __init__(
        self,
        live: Live,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 32,
        batch_size: int = 8,
        cache_bytes: int = 1 << 30,
        patches: Patches = NO_PATCHES,
        progress: Progress | None = None,
    ) -> None:
        self.live, self._patches = live, patches
        self.samples = len(samples)
        self._known: dict[frozenset[int], Judged] = {}
        self._config = live.model.config.to_dict()
        self._cache_bytes = cache_bytes
        rolled = roll_out(
            live, samples, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
        )
        parts: list[tuple[Rollouts, Entered]] = []
        with live.ends():
            for rollouts in rolled:
                if not parts:
                    self._check_itself(collate(live, [encode(live, samples[0])]))
                parts.append((rollouts, _sharing(enter(live, rollouts.batch))))
        self._starts, self._batches = self._run_dense(parts)
        self._head_rows = max(1, _HEAD_BYTES // self._bytes_of_a_distribution())

    @property
    def entered(self) -> list[Entered]:
        """The samples with the dense model's answers, before the first block."""
        return [batch.entered for batch in self._batches]

    def kl(self, drop: Collection[int]) -> float:
        """Mean over samples of the mean over answer tokens of KL(dense || slim), in nats."""
        return self.kls([drop])[0]

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]:
        """As `kl`, of many sets in as few passes over the weights as memory allows."""
        return [float(judged.kl.mean()) for judged in self.of(drops)]

    def of(self, drops: Sequence[Collection[int]]) -> list[Judged]:
        """Every sample of every set; remembered, so a set is run once."""
        keys = [frozenset(drop) for drop in drops]
        for key in keys:
            refuse_tied_layers(self._config, self.live.parts.family, sorted(key))
        new = sorted({key for key in keys if key not in self._known}, key=sorted)
        variants = [self._patches.variant(key) for key in new]
        self._known |= dict(zip(new, self._judge(variants), strict=True))
        return [self._known[key] for key in keys]

    def kls_of(self, variants: Sequence[Variant]) -> list[float]:
        """As `kls`, also for other weights; nothing is remembered."""
        return [float(judged.kl.mean()) for judged in self.judged(variants)]

    def judged(self, variants: Sequence[Variant]) -> list[Judged]:
        """Every sample of every variant; nothing is remembered."""
        return self._judge(variants)

    def _run_dense(self, parts: Sequence[tuple[Rollouts, Entered]]) -> tuple[range, list[_Batch]]:
        """One pass of the dense model: what leaves it, and what enters evenly spaced layers, as many as there
        is room for; always layer 0. Pictures and padding are not kept."""
        entered = [held for _, held in parts]
        one_layer = sum(held.stream.nbytes for held in entered)
        fixed = sum(
            _bytes_of([*held.added.values(), *(v for given in held.arguments for v in given.values())])
            for held in entered
        )
        count = 1 + max(0, self._cache_bytes - fixed - one_layer) // one_layer
        starts = range(0, self.live.layers, -(-self.live.layers // count))
        kept: list[dict[int, torch.Tensor]] = [{0: held.stream} for held in entered]

        def keep(layer: int, _members: tuple[int, ...], number: int, stream: torch.Tensor) -> None:
            if layer + 1 in starts:
                kept[number][layer + 1] = stream

        (leaving,) = sweep(self.live, entered, [Variant()], visit=keep)
        batches = [
            _Batch(
                rows=rollouts.rows,
                positions=rollouts.positions,
                samples=rollouts.samples,
                entered=held,
                answers=stream[rollouts.rows, rollouts.positions],
                streams=streams,
            )
            for (rollouts, held), stream, streams in zip(parts, leaving, kept, strict=True)
        ]
        return starts, batches

    def _bytes_of_a_distribution(self) -> int:
        """One row of float32 logits."""
        return 4 * int(self._log_probabilities(self._batches[0].answers[:1]).shape[-1])

    @torch.inference_mode()
    def _judge(self, variants: Sequence[Variant]) -> list[Judged]:
        """Each variant against the dense model."""
        values = [nothing_yet(self.samples) for _ in variants]
        order = neighbours_first(variants, self.live.layers)
        one_set = sum(batch.entered.stream.nbytes for batch in self._batches)
        together = max(1, self._cache_bytes // one_set)
        for first in range(0, len(order), together):
            members = order[first : first + together]
            for batches in self._in_parts():
                found = self._leaving(batches, [variants[member] for member in members])
                with self.live.end():
                    for number, batch in enumerate(batches):
                        slim = [streams[number][batch.rows, batch.positions] for streams in found]
                        found_here = self._compared(batch, slim)
                        for member, found_of in zip(members, found_here, strict=True):
                            for name, each in found_of._asdict().items():
                                getattr(values[member], name)[list(batch.samples)] = _per_sample(batch, each)
        return values

    def _in_parts(self) -> Iterator[list[_Batch]]:
        """Batches whose streams are in memory together."""
        part: list[_Batch] = []
        for batch in self._batches:
            held = sum(one.entered.stream.nbytes for one in part)
            if part and held + batch.entered.stream.nbytes > self._cache_bytes:
                yield part
                part = []
            part.append(batch)
        yield part

    def _leaving(self, batches: Sequence[_Batch], variants: Sequence[Variant]) -> list[Streams]:
        first = min(variant.first_difference(self.live.layers - 1) for variant in variants)
        start = max(layer for layer in self._starts if layer <= first)
        given = [batch.streams[start] for batch in batches]
        entered = [batch.entered for batch in batches]
        return sweep(self.live, entered, variants, start=start, streams=[given] * len(variants))

    @torch.inference_mode()
    def _check_itself(self, batch: dict[str, torch.Tensor]) -> None:
        """Blocks one by one, without some, give what the model gives with those bypassed; else `InputError`.

        Blocks that read more than the stream and their arguments (keys and values of another layer) would be
        judged wrong, and so would a head that does more than `Live.logits`.
        """
        family, entered = self.live.parts.family, _sharing(enter(self.live, batch))
        tied = tied_layers(self._config, family)
        probe = [layer for layer in range(self.live.layers) if layer not in tied][1::2]
        remedy = "Layers of this model cannot be removed safely"
        if not self._agrees(batch, entered, probe):
            layer = next((layer for layer in probe if not self._agrees(batch, entered, [layer])), probe)
            rule = f"without it, this {family.model_type} model is not its other blocks one by one"
            raise InputError(explain("layer", layer, rule, remedy))
        reader = self._reader_of_others(entered)
        if reader is not None:
            rule = f"this block of a {family.model_type} model reads more than the stream that enters it"
            raise InputError(explain("layer", reader, rule, remedy))

    def _agrees(self, batch: dict[str, torch.Tensor], entered: Entered, drop: Sequence[int]) -> bool:
        """Whether stream and last logits without `drop` are those of the model with these bypassed."""
        ((ours,),) = sweep(self.live, [entered], [Variant(frozenset(drop))])
        with bypassed(self.live, drop):
            theirs, logits = last_stream_and_logits(self.live, batch)
        return _same(ours, theirs) and _same(self.live.logits(ours[:, -1:]), logits)

    def _reader_of_others(self, entered: Entered) -> int | None:
        """A block of the later half that depends on what the earlier ones last saw, beside the stream."""
        live, half = self.live, self.live.layers // 2

        def through(stream: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            ((found,),) = sweep(live, [entered], [Variant()], start=start, stop=stop, streams=[[stream]])
            return found

        dense = [through(entered.stream, 0, half)]
        for layer in range(half, live.layers):
            dense.append(through(dense[-1], layer, layer + 1))
        through(2 * entered.stream, 0, half)
        for layer, (entering, leaving) in enumerate(pairwise(dense), half):
            if not _same(through(entering, layer, layer + 1), leaving):
                return layer
        return None

    def _compared(self, batch: _Batch, slim: Sequence[torch.Tensor]) -> list[Apart]:
        """Of each of several streams [n, width] after the last block, against the dense answers."""
        parts: list[list[Apart]] = [[] for _ in slim]
        for start in range(0, len(batch.answers), self._head_rows):
            block = slice(start, start + self._head_rows)
            log_p = self._log_probabilities(batch.answers[block])
            for number, stream in enumerate(slim):
                parts[number].append(apart(log_p, self._log_probabilities(stream[block])))
        return [behind_one_another(one) for one in parts]

    @torch.inference_mode()
    def _log_probabilities(self, answers: torch.Tensor) -> torch.Tensor:
        """float32 [n, vocabulary] of streams [n, width] after the last block."""
        return self.live.logits(answers).float().log_softmax(-1)


def _per_sample(batch: _Batch, values: torch.Tensor) -> np.ndarray:
    """float64 [B]: the mean over each sample's answer tokens."""
    totals = torch.zeros(len(batch.samples), dtype=torch.float64, device=values.device)
    counts = torch.zeros_like(totals)
    totals.index_add_(0, batch.rows, values)
    counts.index_add_(0, batch.rows, torch.ones_like(values))
    means: np.ndarray = (totals / counts).cpu().numpy()
    return means


def _sharing(entered: Entered) -> Entered:
    """The same, one object for all blocks whose arguments are the same objects (layers of a kind)."""
    return replace(entered, arguments=_shared(entered.arguments))


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
