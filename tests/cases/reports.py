"""A small whole report to spoil, and the verdict of the real command on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.cases.command import Done, topovlm
from tests.report import factory
from topovlm.report import store
from topovlm.report.sections import accuracy_section

Change = Callable[[dict[str, Any]], object]


@cache
def _text() -> str:
    whole, dense = factory.standard(), factory.dense_answers()
    few = [factory.outcomes(answers)[::30] for answers in (dense, factory.slim_answers(dense))]
    accuracy = accuracy_section(*few, source="engine", sample_source="few", task="test")
    report = msgspec.structs.replace(whole, accuracy=accuracy, latency=factory.latency(n=20))
    return store.encode(report).decode()


def written(file: Path, change: Change = lambda report: None) -> Path:
    """A report.json with a change made to it by hand."""
    data = json.loads(_text())
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


def checked(
    folder: Path, candidate: Change, baseline: Change = lambda report: None, *words: str, **more: Any
) -> Done:
    """`topovlm check c.json --baseline b.json`."""
    run, before = written(folder / "c.json", candidate), written(folder / "b.json", baseline)
    return topovlm("check", run, "--baseline", before, *words, cwd=folder, **more)
