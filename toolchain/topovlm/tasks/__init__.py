"""The tasks there are, by name: ours below, others by the entry point group `topovlm.tasks`.

Adding one is a module with a class that follows `topovlm.evaluation.task.Task`, and a row here or an entry
point of an installed package: see docs/adding-a-task.md.
"""

from __future__ import annotations

from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.evaluation.task import OpenTask, Task
from topovlm.registry import Registry


def _jsonl() -> OpenTask:
    from topovlm.tasks.jsonl import JsonlTask

    return JsonlTask


def _reference() -> OpenTask:
    from topovlm.reference.task import ReferenceTask

    return ReferenceTask


TASKS: Registry[OpenTask] = Registry(
    "topovlm.tasks", {"jsonl": _jsonl, "reference": _reference}, needs=("__call__",)
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
