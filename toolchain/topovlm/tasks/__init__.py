"""The tasks there are, by name: ours below, others by the entry point group `topovlm.tasks`.

Public benchmarks have two names each: `ai2d` scores as lmms-eval does, `ai2d-strict` by our own reader.

Adding one is a module with a class that follows `topovlm.evaluation.task.Task`, and a row here or an entry
point of an installed package: see docs/adding-a-task.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.evaluation.task import OpenTask, Task
from topovlm.registry import Registry
from topovlm.tasks.public.table import BENCHMARKS, PROTOCOLS


def _jsonl() -> OpenTask:
    from topovlm.tasks.jsonl import JsonlTask

    return JsonlTask


def _reference() -> OpenTask:
    from topovlm.reference.task import ReferenceTask

    return ReferenceTask


def _public(name: str, protocol: str) -> OpenTask:
    from topovlm.tasks.public.task import PublicTask

    return partial(PublicTask, BENCHMARKS[name], protocol)


def _publics() -> dict[str, Callable[[], OpenTask]]:
    return {
        f"{name}{suffix}": partial(_public, name, protocol)
        for name in BENCHMARKS
        for suffix, protocol in PROTOCOLS.items()
    }


TASKS: Registry[OpenTask] = Registry(
    "topovlm.tasks", {"jsonl": _jsonl, "reference": _reference, **_publics()}, needs=("__call__",)
)


def open_task(name: str | None, data: Path | None) -> Task:
    """The task of that name; None: the user's `data` where there are any, else the shipped benchmark.

    Raises `InputError` for an unknown name, and where the task refuses `data`.
    """
    name = name or ("reference" if data is None else "jsonl")
    task = TASKS.find(name, "--task")(data)
    missing = [
        part
        for part in ("name", "source", "licence", "samples", "prompt", "score")
        if not hasattr(task, part)
    ]
    if missing:
        rule = f"is no task: it has no {missing[0]}"
        raise InputError(explain("--task", name, rule, "See docs/adding-a-task.md"))
    if task.name != name:
        rule = f"calls itself {task.name!r}: a task is named as its entry point"
        raise InputError(explain("--task", name, rule, "Update or remove the plug-in"))
    return task
