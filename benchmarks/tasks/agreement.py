"""Our prompts and readings against golden vectors: equal, or different in a way that a record states."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topovlm.tasks.public.items import Item, item_of
from topovlm.tasks.public.prompts import PROMPTS
from topovlm.tasks.public.reading import Reading
from topovlm.tasks.public.record import Benchmark
from topovlm.tasks.public.rules import RULES
from topovlm.tasks.public.strict import strict
from topovlm.tasks.public.table import BENCHMARKS

GOLDEN = Path(__file__).parents[2] / "tests" / "tasks" / "golden"


@dataclass
class Agreement:
    """Counts over one file of vectors. `strays`: what is neither equal nor a stated difference.

    `judged`: equal to what lmms-eval would score if its GPT model repeated what the answer states.
    """

    task: str
    prompts: int = 0
    scores: int = 0
    judged: int = 0
    stated: Counter[str] = field(default_factory=Counter)
    strays: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.prompts


def agreement(file: Path) -> Agreement:
    """Of a file that `benchmarks.tasks.golden` wrote."""
    document = json.loads(file.read_text(encoding="utf-8"))
    record = BENCHMARKS[document["task"]]
    found = Agreement(record.name)
    for number, vector in enumerate(document["rows"]):
        item = item_of(record, with_pictures(record, vector["row"]), record.configs[0], number)
        if PROMPTS[record.prompt](item) == vector["prompt"]:
            found.prompts += 1
        else:
            found.strays.append(f"{record.name} row {number}: another prompt")
        for answer in vector["answers"]:
            _compare(found, record, item, answer)
    return found


def readings(file: Path) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """(answers, (read, right) by lmms-eval's rule, (read, right) by our reader) of a file of vectors."""
    document = json.loads(file.read_text(encoding="utf-8"))
    record, found = BENCHMARKS[document["task"]], []
    for number, vector in enumerate(document["rows"]):
        item = item_of(record, with_pictures(record, vector["row"]), record.configs[0], number)
        found += [(RULES[record.rule](item, text), strict(item, text)) for text, _, _ in vector["answers"]]
    theirs, ours = ([pair[side] for pair in found] for side in (0, 1))

    def counts(many: list[Reading]) -> tuple[int, int]:
        return sum(one.read is not None for one in many), sum(one.right for one in many)

    return len(found), counts(theirs), counts(ours)


def with_pictures(record: Benchmark, row: dict[str, Any]) -> dict[str, Any]:
    """Names in the cells of pictures as paths, as a reader of text files gives them."""
    return {k: Path(v) if k in record.pictures and v is not None else v for k, v in row.items()}


def _compare(found: Agreement, record: Benchmark, item: Item, answer: Sequence[Any]) -> None:
    text, score, remark, *judged = answer
    reading = RULES[record.rule](item, text)
    if remark == "random":
        _note(found, "a letter drawn at random", reading.read is None, item, text)
    elif item.fields.get("answer_type") == "float" and score != 0:
        found.strays.append(f"{item.id}: {text!r}, a decimal, is right there")
    elif remark == "judge" or item.fields.get("answer_type") == "float":
        _compare_judged(found, item, text, reading, judged[0])
    elif reading.right == bool(score):
        found.scores += 1
    else:
        found.strays.append(f"{item.id}: {text!r} scores {score} there, read as {reading}")


def _compare_judged(found: Agreement, item: Item, text: str, reading: Reading, score: float | None) -> None:
    if score is None:
        found.stated["asked of a GPT model about a text that states nothing, or several things"] += 1
    elif reading.right == bool(score):
        found.judged += 1
    elif reading.read is None:
        found.stated["read by a judge, unread here"] += 1
    else:
        found.strays.append(f"{item.id}: {text!r} scores {score} by a judge, read as {reading}")


def _note(found: Agreement, kind: str, holds: bool, item: Item, text: str) -> None:
    if holds:
        found.stated[kind] += 1
    else:
        found.strays.append(f"{item.id}: {text!r} is {kind} there, and not here")
