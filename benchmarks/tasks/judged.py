"""MathVista's rule against answers that a GPT model really read: those that its authors publish.

    git clone https://github.com/lupantech/MathVista DIR
    python -m benchmarks.tasks judged DIR

For each model's outputs on testmini: how many answers the authors' judge (GPT-4, then the choice nearest in
spelling) counts right, how many our rule does, and where they differ; outputs that are programs are left out.
They are CC BY-SA 4.0, and not copied here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tasks.agreement import with_pictures
from topovlm.errors import InputError, explain
from topovlm.tasks.public.items import Item, item_of
from topovlm.tasks.public.mathvista import mathvista_rule
from topovlm.tasks.public.strict import strict
from topovlm.tasks.public.table import BENCHMARKS

# Answers that no model gave, and programs, which no protocol of ours asks for.
_NO_MODELS = ("random", "test_random", "leaderboad_submission_template")
_PROGRAMS = "_code"
KINDS = (
    "judge guesses by spelling",  # right there, and what was extracted is none of the choices
    "judge right, ours unread",
    "judge right, ours wrong",
    "ours right, judge wrong",
)


@dataclass
class Judged:
    """Counts over answers; `differing` by `KINDS`."""

    answers: int = 0
    judge_right: int = 0
    rule_right: int = 0
    rule_read: int = 0
    strict_right: int = 0
    differing: Counter[str] = field(default_factory=Counter)

    def add(self, item: Item, text: str, extraction: str, judged: bool) -> str:
        """One answer; returns the kind of a difference, or nothing."""
        found, ours = mathvista_rule(item, text.strip()), strict(item, text.strip())
        self.answers += 1
        self.judge_right += judged
        self.rule_right += found.right
        self.rule_read += found.read is not None
        self.strict_right += ours.right
        kind = ""
        if judged and not found.right:
            named = {*item.letters, *item.options, *(f"({letter})" for letter in item.letters)}
            if item.options and extraction.strip() not in named:
                kind = KINDS[0]
            else:
                kind = KINDS[2] if found.read is not None else KINDS[1]
        elif found.right and not judged:
            kind = KINDS[3]
        if kind:
            self.differing[kind] += 1
        return kind

    @property
    def agreeing(self) -> int:
        return self.answers - self.differing.total()

    def __add__(self, other: Judged) -> Judged:
        return Judged(
            self.answers + other.answers,
            self.judge_right + other.judge_right,
            self.rule_right + other.rule_right,
            self.rule_read + other.rule_read,
            self.strict_right + other.strict_right,
            self.differing + other.differing,
        )


def judged(repository: Path) -> dict[str, Judged]:
    """Name of a file of outputs -> counts. Raises `InputError` where there are none."""
    found: dict[str, Judged] = {}
    for name, item, one in _answers(repository):
        counts = found.setdefault(name, Judged())
        counts.add(item, one["response"], str(one["extraction"]), bool(one["true_false"]))
    if not found:
        rule = "holds no results/*/output_*.json with extracted answers"
        raise InputError(explain("folder", str(repository), rule, "Give a checkout of lupantech/MathVista"))
    return found


def _answers(repository: Path) -> Iterator[tuple[str, Item, dict[str, Any]]]:
    record = BENCHMARKS["mathvista"]
    for file in sorted(repository.glob("results/*/output_*.json")):
        if file.parent.name in _NO_MODELS or _PROGRAMS in file.stem:
            continue
        for number, one in enumerate(json.loads(file.read_text(encoding="utf-8")).values()):
            if not isinstance(one.get("response"), str) or "extraction" not in one:
                continue
            row = {**one, "metadata": {"task": "t"}, "decoded_image": "a.png"}
            item = item_of(record, with_pictures(record, row), record.configs[0], number)
            yield file.stem.removeprefix("output_"), item, one


def table(found: dict[str, Judged]) -> list[str]:
    """Lines of Markdown, all files together last."""
    every = sum(found.values(), Judged())
    head = ("outputs", "answers", "judge: right", "our rule: right", "read", "agree", *KINDS, "strict: right")
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, one in (*found.items(), ("all", every)):
        cells = [one.answers, one.judge_right, one.rule_right, one.rule_read]
        shown = [f"{cell:,}" for cell in cells] + [f"{one.agreeing / one.answers:.1%}"]
        shown += [f"{one.differing[kind]:,}" for kind in KINDS] + [f"{one.strict_right:,}"]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines
