"""Judgements in shards: a batch of the judge, or all samples of the patches, on whoever is free; to the bit.

As `shards`: a batch is composed as `judge` composes it, and computed with as many threads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from topovlm.artifacts import digest_of
from topovlm.choose.eliminations import eliminate
from topovlm.choose.shards import TorchJob, TorchModel
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.families.layers import refuse_tied_layers, tied_layers
from topovlm.samples import Sample
from topovlm.workers.jobs import Opened, Shard
from topovlm.workers.pool import Pool

if TYPE_CHECKING:
    import torch

    from topovlm.checkpoint.files import Checkpoint
    from topovlm.checkpoint.live import Live
    from topovlm.choose.judge import Judge
    from topovlm.choose.repair.patch import Cut
    from topovlm.choose.repair.patches import Patches

_BATCH = 8
_NEW_TOKENS = 32
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class JudgeJob(TorchJob):
    """float64 [sets, samples]: KL of each set in `asked`, its cuts patched, to the dense model, on one batch.
    The judge of a batch stays in the worker for the next round; `cache_bytes` bounds each."""

    patches: Patches
    cache_bytes: int = _CACHE_BYTES

    @property
    def key(self) -> str:
        return digest_of(["judge", self.source.content, _NEW_TOKENS, self.patches.digest])

    def run(self, opened: Opened, shard: Shard) -> np.ndarray:
        from topovlm.choose.judge import Judge

        name = f"judge {shard.digest} {self.patches.digest}"
        if name not in opened.kept:
            opened.kept[name] = Judge(
                cast("Live", opened.value),
                shard.samples,
                max_new_tokens=_NEW_TOKENS,
                batch_size=_BATCH,
                cache_bytes=self.cache_bytes,
                patches=self.patches,
            )
        judge = cast("Judge", opened.kept[name])
        return np.stack([judged.kl for judged in judge.of(shard.asked)])


@dataclass(frozen=True)
class PatchesJob(TorchJob):
    """float32 [cuts, d, m]: `patches.fit_patches` on all samples of one shard; not a number where a cut has
    none. `stored`: the type that they are rounded to."""

    cuts: tuple[Cut, ...]
    stored: torch.dtype

    @property
    def key(self) -> str:
        cuts = [[cut.anchor, cut.first, cut.last] for cut in self.cuts]
        return digest_of(["patches", self.source.content, _NEW_TOKENS, cuts, str(self.stored)])

    def run(self, opened: Opened, shard: Shard) -> np.ndarray:
        import torch

        from topovlm.choose.repair.patches import fit_patches

        live = cast("Live", opened.value)
        found = fit_patches(live, self.cuts, shard.samples, self.stored, max_new_tokens=_NEW_TOKENS).weights
        size = next((weight.shape for weight in found.values()), (1, 1))
        nothing = torch.full(size, torch.nan)
        return torch.stack([found.get(cut, nothing).float().cpu() for cut in self.cuts]).numpy()


def patches_in_shards(
    pool: Pool, model: TorchModel, samples: Sequence[Sample], cuts: Sequence[Cut], stored: torch.dtype
) -> Patches:
    """As `patches.fit_patches`, bit for bit, on one worker: all equations rest on all samples."""
    import torch

    from topovlm.choose.repair.patches import Patches

    (found,) = pool.run(PatchesJob(model, tuple(cuts), stored), [Shard(tuple(samples))])
    weights = [torch.from_numpy(weight) for weight in np.asarray(found)]
    finite = {
        cut: weight.to(stored)
        for cut, weight in zip(cuts, weights, strict=True)
        if torch.isfinite(weight).all()
    }
    return Patches(finite, frozenset(cuts))


class ShardedJudge:
    """As `judge.Judge`, bit for bit: its batches, each judged by whoever is free."""

    def __init__(
        self,
        pool: Pool,
        model: TorchModel,
        checkpoint: Checkpoint,
        samples: Sequence[Sample],
        lengths: Sequence[int],
        *,
        patches: Patches,
    ) -> None:
        from topovlm.checkpoint.encoded import batches_by_length

        if not samples:
            raise InputError(explain("held-out samples", 0, "at least one is needed"))
        self._pool, self._checkpoint = pool, checkpoint
        self._rows = batches_by_length(lengths, _BATCH)
        self._shards = [Shard(tuple(samples[row] for row in rows)) for rows in self._rows]
        self._job = JudgeJob(model, patches, _CACHE_BYTES // len(self._rows))
        self._known: dict[frozenset[int], np.ndarray] = {}

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]:
        """Mean over samples of the mean over answer tokens of KL(dense || slim), in nats."""
        keys = [frozenset(drop) for drop in drops]
        for key in keys:
            refuse_tied_layers(self._checkpoint.config, self._checkpoint.family, sorted(key))
        new = sorted({key for key in keys if key not in self._known}, key=sorted)
        if new:
            asked = tuple(tuple(sorted(key)) for key in new)
            found = self._pool.run(self._job, [shard.asking(asked) for shard in self._shards])
            values = np.zeros((len(new), sum(map(len, self._rows))))
            for rows, part in zip(self._rows, found, strict=True):
                values[:, rows] = part
            self._known |= dict(zip(new, values, strict=True))
        return [float(self._known[key].mean()) for key in keys]


def elimination_in_shards(
    pool: Pool,
    model: TorchModel,
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    lengths: Sequence[int],
    *,
    protected: Collection[int] = (),
    progress: Progress | None = None,
) -> np.ndarray:
    """As `eliminations.collect_elimination`, bit for bit: round by round, batches side by side."""
    from topovlm.choose.repair.patches import NO_PATCHES

    judge = ShardedJudge(pool, model, checkpoint, samples, lengths, patches=NO_PATCHES)
    tied = tied_layers(checkpoint.config, checkpoint.family)
    return eliminate(judge, checkpoint.layers, {*protected, *tied}, progress=progress)
