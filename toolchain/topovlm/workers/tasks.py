"""Whole pieces of work on a Ray, several at once: one whose worker died is done again on another."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from topovlm.errors import TopovlmError
from topovlm.workers.node import packages, perform_task
from topovlm.workers.ray_cluster import RayCluster

if TYPE_CHECKING:
    from topovlm.workers.jobs import Task


def run_tasks(cluster: RayCluster, tasks: Sequence[Task]) -> Generator[tuple[int, Any | TopovlmError]]:
    """(number, result) of each task as it ends; in the result's place the error that ended it.

    That is what it has raised for the user, and `MissingToolError` for one whose workers die again and again.
    Raises `MissingToolError` when no node is left.
    """
    if not tasks:
        return
    ray, expected = cluster.started(), packages()

    def submit(number: int) -> Any:
        task = tasks[number]
        # A worker's process ends with its task: memory, threads and what libraries keep are nobody else's.
        remote, _ = cluster.task(perform_task, task.cpus, task.gpus, max_calls=1)
        return remote.options(scheduling_strategy="SPREAD").remote(ray.put(task), expected)

    least = min(cluster.most("CPU"), *(task.cpus for task in tasks))
    with contextlib.closing(cluster.ended(submit, range(len(tasks)), least)) as ended:
        for number, one in ended:
            try:
                found: Any = cluster.result(one)
            except TopovlmError as error:
                found = error
            yield number, found
