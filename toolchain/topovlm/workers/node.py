"""What runs on a worker: checks that it is the driver's twin, opens what a job needs once, runs a shard.

Or a task, which opens what it needs itself.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from topovlm.errors import InputError, TopovlmError, explain, located
from topovlm.machine.environment import NUMERIC_PACKAGES, cpu_name, versions
from topovlm.version import __version__
from topovlm.workers.jobs import Opened, Shard, in_memory

if TYPE_CHECKING:
    from topovlm.workers.jobs import Job, Result, Task

# What this process has opened, by the source's key. One at a time: models are large.
_OPENED: dict[str, Opened] = {}


@dataclass(frozen=True)
class Done:
    """A shard's result, and where it was made."""

    result: Result
    node: str
    cpu: str


def packages() -> dict[str, str]:
    """What decides the numbers, and must be the same on a worker."""
    return {"topovlm": __version__, **versions(NUMERIC_PACKAGES)}


def perform(job: Job, shard: Shard, digest: str, expected: Mapping[str, str]) -> Done:
    """Run one shard. Raises what the job raises, and `InputError` for another version, model or picture; each
    with the node's name in front."""
    with _named():
        _check_packages(expected)
        opened = _opened(job)
        result = job.run(opened, _checked(shard, digest))
    return Done(result, platform.node(), cpu_name())


def perform_task(task: Task, expected: Mapping[str, str]) -> object:
    """Run one task. Raises what it raises, and `InputError` for another version; with the node's name."""
    if not task.gpus:  # as where it was asked for: torch takes one that it sees
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with _named():
        _check_packages(expected)
        return task.run()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Whatever is raised for the user within the block says which node it comes from."""
    try:
        yield
    except TopovlmError as error:
        raise type(error)(located(error, f"worker on {platform.node()}")) from None


def _check_packages(expected: Mapping[str, str]) -> None:
    found = packages()
    for name, version in expected.items():
        if found.get(name) != version:
            rule = f"is installed on the worker; the run has {version}"
            raise InputError(explain(name, found.get(name), rule, f"Install {name}=={version} there"))


def _opened(job: Job) -> Opened:
    source = job.source
    if source.key not in _OPENED:
        _OPENED.clear()
        source.check()
        _OPENED[source.key] = source.open()
    return _OPENED[source.key]


def _checked(shard: Shard, digest: str) -> Shard:
    """The shard with its pictures in memory: those that the driver has looked at."""
    found = replace(shard, samples=in_memory(shard.samples))
    if found.digest != digest:
        rule = "differ here from those on the machine that asks"
        remedy = "Share the folder of --data, or copy it to the same path"
        raise InputError(explain("pictures", shard.samples[0].source or shard.samples[0].id, rule, remedy))
    return found
