"""Shards on a Ray (`ray_cluster`): it repeats a shard whose worker died; results are kept as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.console import Progress
from topovlm.machine.environment import cpu_name
from topovlm.workers import kept
from topovlm.workers.address import Address
from topovlm.workers.jobs import result_key
from topovlm.workers.node import Done, packages, perform
from topovlm.workers.ray_cluster import RayCluster

if TYPE_CHECKING:
    from topovlm.workers.jobs import Ended, Job, Result, Shard


class RayPool:
    """Raises `MissingToolError` where Ray is not installed, or nobody answers at the address."""

    here = False

    def __init__(self, address: Address, say: Callable[[str], None] | None = None) -> None:
        self._cluster = RayCluster(address)
        self._say, self._seen = say, {cpu_name()}
        self._folder: Path | None = None
        self._places: dict[str, str] = {}  # the node that had a shard last

    def keep_in(self, folder: Path) -> None:
        self._folder = folder

    def run(
        self,
        job: Job,
        shards: Sequence[Shard],
        progress: Progress | None = None,
        ended: Ended | None = None,
    ) -> list[Result]:
        """Raises what a shard raises, and `MissingToolError` for one whose workers die again and again."""
        total, done = sum(len(shard.samples) for shard in shards), 0
        results: dict[int, Result] = {}

        def have(number: int, result: Result) -> None:
            nonlocal done
            results[number] = result
            if ended:
                ended(shards[number], result)
            done += len(shards[number].samples)
            if progress:
                progress(done, total)

        keys = [result_key(job, shard) for shard in shards]
        for number, key in enumerate(keys):
            known = None if self._folder is None else kept.read(self._folder, key)
            if known is not None:
                have(number, known)
        waiting = [number for number in range(len(shards)) if number not in results]
        with contextlib.closing(self._performed(job, shards, waiting)) as performed:
            for number, made in performed:
                self._look_at(made)
                if self._folder is not None:
                    kept.write(self._folder, keys[number], made.result)
                have(number, made.result)
        return [results[number] for number in range(len(shards))]

    def _performed(
        self, job: Job, shards: Sequence[Shard], waiting: list[int]
    ) -> Generator[tuple[int, Done]]:
        """Results as they come."""
        if not waiting:
            return
        task, cpus = self._cluster.task(_perform, job.cpus, job.gpus)
        shared, expected = self._cluster.started().put(job), packages()

        def submit(number: int) -> Any:
            shard = shards[number]
            placed = task.options(scheduling_strategy=self._strategy(shard))
            return placed.remote(shared, shard.leaving(), shard.digest, expected)

        with contextlib.closing(self._cluster.ended(submit, waiting, cpus)) as ended:
            for number, one in ended:
                made, self._places[shards[number].digest] = self._cluster.result(one)
                yield number, made

    def _strategy(self, shard: Shard) -> Any:
        """Where it was before, while that node lives: what was prepared for it is there. Else somewhere."""
        place = self._places.get(shard.digest)
        if place is None:
            return "SPREAD"
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(place, soft=True)

    def _look_at(self, made: Done) -> None:
        """Equal inputs give equal bits on processors of a kind; nobody should take that for more."""
        if made.cpu not in self._seen and self._say:
            self._say(f"note: {made.node} has another processor ({made.cpu}): last digits may differ")
        self._seen.add(made.cpu)

    def release(self) -> None:
        """End our part of the cluster, with what its workers hold."""
        self._cluster.release()
        self._places = {}


def _perform(*given: Any) -> tuple[Done, str]:
    """On a worker."""
    import ray

    return perform(*given), ray.get_runtime_context().get_node_id()
