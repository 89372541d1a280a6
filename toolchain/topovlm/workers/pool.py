"""Where shards run: here, one after the other, or on a Ray (`ray_pool`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from topovlm.console import Progress
from topovlm.workers.address import parse_address

if TYPE_CHECKING:
    from topovlm.workers.jobs import Ended, Job, Result, Shard


class Pool(Protocol):
    """Runs the shards of a job. The results are the same wherever they are made."""

    @property
    def here(self) -> bool:
        """Whether shards run in this process: then models that it has loaded already serve."""
        ...

    def run(
        self,
        job: Job,
        shards: Sequence[Shard],
        progress: Progress | None = None,
        ended: Ended | None = None,
    ) -> list[Result]:
        """Their results in order. `progress` counts samples; `ended` is given each result as it comes."""
        ...

    def keep_in(self, folder: Path) -> None:
        """Keep results of shards there as they come, for a run that is killed and repeated."""
        ...

    def release(self) -> None:
        """Give memory and cores back, before something is timed; the next shard takes them again."""
        ...


class LocalPool:
    """This process: nothing is hashed, kept or sent."""

    here = True

    def run(
        self,
        job: Job,
        shards: Sequence[Shard],
        progress: Progress | None = None,
        ended: Ended | None = None,
    ) -> list[Result]:
        if not shards:
            return []
        opened = job.source.open()
        total, done = sum(len(shard.samples) for shard in shards), 0
        results: list[Result] = []
        for shard in shards:
            results.append(job.run(opened, shard))
            if ended:
                ended(shard, results[-1])
            done += len(shard.samples)
            if progress:
                progress(done, total)
        return results

    def keep_in(self, folder: Path) -> None:
        """Shards of this process are as good as the stage that they belong to."""

    def release(self) -> None:
        """Nothing is held between jobs."""


HERE: Pool = LocalPool()


@contextlib.contextmanager
def released(pool: Pool) -> Iterator[Pool]:
    """Within the block the pool may be used; at its end it gives back all that it took."""
    try:
        yield pool
    finally:
        pool.release()


def open_pool(workers: str | None, say: Callable[[str], None] | None = None) -> Pool:
    """The pool of `--workers` (None: this process); nothing is started before a shard runs.

    `say`: is told what the user should know of the workers.

    Raises `MissingToolError` where Ray is not installed, or where nobody answers at that address.
    """
    if workers is None:
        return HERE
    address = parse_address(workers)
    from topovlm.workers.ray_pool import RayPool

    return RayPool(address, say)
