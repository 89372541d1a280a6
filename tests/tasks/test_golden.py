"""Prompts and scores against what lmms-eval 0.7.3 made of the same rows and answers, case by case.

`benchmarks.tasks.golden` made the vectors with lmms-eval's own code, from every form of answer that we know
and from answers that models gave to MMMU and BLINK.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tasks.agreement import GOLDEN, agreement, with_pictures

from topovlm.tasks.public.items import item_of
from topovlm.tasks.public.rules import RULES
from topovlm.tasks.public.table import BENCHMARKS, differences

FILES = sorted(GOLDEN.glob("*.json"))


def test_every_benchmark_has_vectors() -> None:
    """All of one release, which the protocol is named after."""
    documents = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
    assert {document["task"] for document in documents} == set(BENCHMARKS)
    assert {document["lmms_eval"] for document in documents} == {"0.7.3"}
    assert {"mmmu-real", "blink-real"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_prompts_and_scores_are_the_same(file: Path) -> None:
    """To the last case, but for what a record states as a difference."""
    found = agreement(file)
    assert found.strays == []
    assert found.scores + found.judged + found.stated.total() >= 200
    assert found.prompts >= 2
    assert not found.stated or differences(BENCHMARKS[found.task])


def test_a_random_letter_is_nowhere_taken() -> None:
    """Where lmms-eval draws one, the answer is unread: MMMU, EgoSchema and NExT-QA."""
    drawn = {file.stem: agreement(file).stated["a letter drawn at random"] for file in FILES}
    assert {name for name, count in drawn.items() if count} == {"mmmu", "mmmu-real", "egoschema", "nextqa"}


def test_mathvista_is_compared_through_a_judge_that_repeats_the_text() -> None:
    """lmms-eval's code, with a GPT model that extracts what the answer states: equal, but for a few answers
    that are not read here. What states nothing, or several things, has no such score."""
    found = agreement(GOLDEN / "mathvista.json")
    assert found.judged > 300
    assert found.stated["read by a judge, unread here"] <= 12
    others = [file for file in FILES if file.stem != "mathvista"]
    assert {agreement(file).judged for file in others} == {0}


def test_the_comparison_can_fail() -> None:
    """A rule that reads something else is caught: AI2D's vectors by BLINK's rule."""
    document = json.loads((GOLDEN / "ai2d.json").read_text(encoding="utf-8"))
    record = BENCHMARKS["ai2d"]
    wrong = 0
    for number, vector in enumerate(document["rows"]):
        item = item_of(record, with_pictures(record, vector["row"]), "default", number)
        wrong += sum(RULES["blink"](item, text).right != bool(score) for text, score, _ in vector["answers"])
    assert wrong > 50
