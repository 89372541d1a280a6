"""What travels: a job says what its shards share, a shard says what it is asked. Both are plain data.

A shard's result depends on nothing but the two, so it may run anywhere, twice, or not at all where its result
is known already. Inputs are named by content: a model by its files' digest, samples by prompt and pixels. A
task is a whole piece of work by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from topovlm.artifacts import digest_of
from topovlm.pictures import pixel_digest
from topovlm.plain_files import Stored
from topovlm.samples import Sample
from topovlm.videos.clip import Clip

if TYPE_CHECKING:
    import numpy as np

    Result = np.ndarray | list[str]
    Ended = Callable[["Shard", Result], None]  # is given a result as it comes


@dataclass
class Opened:
    """What shards of a process share: `value` (a model, an engine), and what jobs keep beside it, by key."""

    value: object
    kept: dict[str, object] = field(default_factory=dict)


class Source(Protocol):
    """Something in a folder that is opened once per process."""

    @property
    def key(self) -> str:
        """Two sources with one key are the same thing."""
        ...

    def check(self) -> None:
        """Raise `InputError` where the folder on this machine is another one than the driver's."""
        ...

    def open(self) -> Opened:
        """Bring it into memory."""
        ...


class Job(Protocol):
    """A pure function of its source and a shard. Its class is a module's own, so that it can travel."""

    @property
    def source(self) -> Source: ...

    @property
    def key(self) -> str:
        """All that a result depends on beside the shard, by content."""
        ...

    @property
    def cpus(self) -> int:
        """Threads that it computes with, here and on a worker: another number could give other last bits."""
        ...

    @property
    def gpus(self) -> int: ...

    def run(self, opened: Opened, shard: Shard) -> Result: ...


class Task(Protocol):
    """Plain data that travels. What it writes lies where all nodes see it, and may be there already."""

    @property
    def cpus(self) -> int:
        """Threads that it computes with."""
        ...

    @property
    def gpus(self) -> int: ...

    def run(self) -> object:
        """On a worker, in a process of its own. Gives plain data."""
        ...


@dataclass(frozen=True)
class Shard:
    """Samples that are computed together, in this order; `asked`: sets of layers, where the job has some."""

    samples: tuple[Sample, ...]
    asked: tuple[tuple[int, ...], ...] = ()

    @functools.cached_property
    def digest(self) -> str:
        """Of the samples alone: prompts and pixels, whatever their pictures' files are called."""
        return samples_digest(self.samples)

    def asking(self, asked: tuple[tuple[int, ...], ...]) -> Shard:
        """The same samples, asked something else; they are not looked at again."""
        return self._again(replace(self, asked=asked))

    def leaving(self) -> Shard:
        """As it is sent: a worker's working directory is another one."""
        return self._again(replace(self, samples=tuple(map(_anywhere, self.samples))))

    def _again(self, other: Shard) -> Shard:
        """With the digest, which is the same."""
        other.__dict__["digest"] = self.digest
        return other


def _anywhere(sample: Sample) -> Sample:
    """The same from any working directory."""
    images = (one.absolute() if isinstance(one, (Path, Stored)) else one for one in sample.images)
    videos = (one.absolute() if isinstance(one, Clip) else one for one in sample.videos)
    return replace(sample, images=tuple(images), videos=tuple(videos))


def samples_digest(samples: tuple[Sample, ...]) -> str:
    """Of prompts and pixels; pictures and videos in files are decoded."""
    return digest_of([[sample.prompt, _digests(sample)] for sample in samples])


def _digests(sample: Sample) -> list[str]:
    videos = [video.digest for video in sample.load_videos()]
    return [*map(pixel_digest, sample.load_images()), *videos]


def in_memory(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """The same with all decoded. Raises `InputError` naming the sample of which something is not there."""
    return tuple(
        replace(one, images=tuple(one.load_images()), videos=tuple(one.load_videos())) for one in samples
    )


def result_key(job: Job, shard: Shard) -> str:
    """The name of a result: sha256 (hex) of all that it depends on."""
    return digest_of([job.key, shard.digest, shard.asked])
