"""Hidden states in shards: batches of the run that would compute them alone, to the bit.

A batch is computed with by itself, whatever others go through the model beside it. So a shard is one or more
whole batches, composed as `calibration` composes its own, with as many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from topovlm.artifacts import digest_of
from topovlm.choose import bypasses, sensitivities
from topovlm.choose.clouds import STREAM, Reading
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample
from topovlm.workers.jobs import Opened, Shard
from topovlm.workers.pool import Pool

if TYPE_CHECKING:
    from topovlm.checkpoint.files import Checkpoint
    from topovlm.checkpoint.live import Live

_BATCHES_OF_STATES = 2  # per shard: a model that stays in its files is read once for all of them


@dataclass(frozen=True)
class TorchModel:
    """A checkpoint's folder and `files.content_hash`; computing in `dtype`, on `device`, with `threads` where
    it is too large for one. `cpus`: how many that will be."""

    folder: Path
    sha256: str
    dtype: str
    device: str
    threads: int
    cpus: int

    @property
    def key(self) -> str:
        return digest_of(["torch", str(self.folder), self.sha256, self.dtype, self.device, self.threads])

    @property
    def content(self) -> tuple[str, str, str, int]:
        """What decides the numbers."""
        return (self.sha256, self.dtype, self.device, self.threads)

    def check(self) -> None:
        from topovlm.checkpoint.files import content_hash

        remedy = "Share the folder, or copy it to the same path"
        if not self.folder.is_dir() or content_hash(self.folder) != self.sha256:
            rule = "is not there, or another one than where the run is"
            raise InputError(explain("--model", str(self.folder), rule, remedy))
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            rule = "is what the run computes on, and the worker has none"
            raise InputError(explain("GPU", self.device, rule, "Hide it from the run: CUDA_VISIBLE_DEVICES="))

    def open(self) -> Opened:
        from topovlm.checkpoint.live import load

        return Opened(load(self.folder, dtype=self.dtype, device=self.device, threads=self.threads))


def torch_model(checkpoint: Checkpoint, sha256: str, dtype: str) -> TorchModel:
    """As this process would load it."""
    import torch

    from topovlm.checkpoint.live import computes_on_one_thread, usual_threads

    threads = usual_threads()
    return TorchModel(
        folder=checkpoint.folder.absolute(),
        sha256=sha256,
        dtype=dtype,
        device="cuda" if torch.cuda.is_available() else "cpu",
        threads=threads,
        cpus=1 if computes_on_one_thread(checkpoint.parameters) else threads,
    )


@dataclass(frozen=True)
class TorchJob:
    source: TorchModel

    @property
    def cpus(self) -> int:
        return self.source.cpus

    @property
    def gpus(self) -> int:
        return int(self.source.device == "cuda")


@dataclass(frozen=True)
class StatesJob(TorchJob):
    """float32 [readings, layers, samples, width]: `calibration.collect` of whole batches of `batch_size`."""

    readings: tuple[Reading, ...] = (STREAM,)
    batch_size: int = 16

    @property
    def key(self) -> str:
        return digest_of(
            ["states", self.source.content, [list(reading) for reading in self.readings], self.batch_size]
        )

    def run(self, opened: Opened, shard: Shard) -> np.ndarray:
        from topovlm.choose.calibration import states_of_batches

        batches = _whole(shard.samples, self.batch_size)
        return states_of_batches(cast("Live", opened.value), batches, self.readings)


@dataclass(frozen=True)
class BypassedJob(TorchJob):
    """float32 [layers + 1, samples, width]: `bypasses.collect_bypassed` of whole batches of `batch_size`."""

    cloud: str = "residual"
    batch_size: int = bypasses.BATCH

    @property
    def key(self) -> str:
        return digest_of(["bypassed", self.source.content, self.cloud, self.batch_size])

    def run(self, opened: Opened, shard: Shard) -> np.ndarray:
        batches = _whole(shard.samples, self.batch_size)
        return bypasses.bypassed_of_batches(cast("Live", opened.value), batches, self.cloud)


@dataclass(frozen=True)
class SensitivityJob(TorchJob):
    """float64 [layers, samples, 1]: `sensitivities.collect_sensitivity` of whole batches, by sample."""

    seed: int = 0
    batch_size: int = sensitivities.BATCH

    @property
    def key(self) -> str:
        return digest_of(["sensitivity", self.source.content, self.seed, self.batch_size])

    def run(self, opened: Opened, shard: Shard) -> np.ndarray:
        batches = _whole(shard.samples, self.batch_size)
        return sensitivities.sensitivity_of_batches(cast("Live", opened.value), batches, self.seed)


def states_in_shards(
    pool: Pool,
    model: TorchModel,
    samples: Sequence[Sample],
    lengths: Sequence[int],
    readings: Sequence[Reading] = (STREAM,),
    *,
    progress: Progress | None = None,
) -> dict[Reading, np.ndarray]:
    """As `calibration.collect`, bit for bit. `lengths`: tokens of the samples' prompts."""
    from topovlm.choose.calibration import check_finite

    job = StatesJob(model, tuple(readings))
    states = _in_shards(pool, job, samples, lengths, progress)
    check_finite(states, model.folder)
    return dict(zip(readings, states, strict=True))


def bypassed_in_shards(
    pool: Pool,
    model: TorchModel,
    samples: Sequence[Sample],
    lengths: Sequence[int],
    cloud: str,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """As `bypasses.collect_bypassed`, bit for bit."""
    from topovlm.choose.calibration import check_finite

    found = _in_shards(pool, BypassedJob(model, cloud), samples, lengths, progress)
    check_finite(found, model.folder)
    return found


def sensitivity_in_shards(
    pool: Pool,
    model: TorchModel,
    samples: Sequence[Sample],
    lengths: Sequence[int],
    seed: int,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """As `sensitivities.collect_sensitivity`, bit for bit."""
    found = _in_shards(pool, SensitivityJob(model, seed), samples, lengths, progress)
    values: np.ndarray = found[..., 0].mean(axis=1)
    return values


def _whole(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    """The batches of a shard."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def _in_shards(
    pool: Pool,
    job: StatesJob | BypassedJob | SensitivityJob,
    samples: Sequence[Sample],
    lengths: Sequence[int],
    progress: Progress | None,
) -> np.ndarray:
    """A job's arrays [..., samples, width] of shards of whole batches, put together in the samples' order."""
    from topovlm.choose.calibration import rows_of_batches

    rows = rows_of_batches(lengths, job.batch_size)
    # A batch that is not full ends its shard: those of a shard are told apart by their size.
    parts: list[list[int]] = [[]]
    for batch in rows:
        if len(parts[-1]) >= _BATCHES_OF_STATES * job.batch_size or len(parts[-1]) % job.batch_size:
            parts.append([])
        parts[-1] += batch
    shards = [Shard(tuple(samples[row] for row in part)) for part in parts]
    found = pool.run(job, shards, progress)
    first = np.asarray(found[0])
    together = np.empty((*first.shape[:-2], len(samples), first.shape[-1]), dtype=first.dtype)
    for part, values in zip(parts, found, strict=True):
        together[..., part, :] = values
    return together


def prompt_lengths(processor: Any, checkpoint: Checkpoint, samples: Sequence[Sample]) -> list[int]:
    """Tokens of each prompt, pictures included: what decides which samples share a batch."""
    from topovlm.checkpoint.processors import processed_sample

    family = checkpoint.family
    return [int(processed_sample(processor, family, one)["input_ids"].shape[-1]) for one in samples]
