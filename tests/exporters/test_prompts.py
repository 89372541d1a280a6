"""Prompts of the gate: within the context, and within what memory there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_families
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.onnx.prompts import Question, make_questions

NEW_TOKENS = 4


@pytest.fixture(scope="module")
def any_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a model that makes more tokens of larger pictures."""
    room = tmp_path_factory.mktemp("prompts")
    export_onnx(tiny_families.build(room / "model", "qwen2_vl"), room / "onnx")
    return room / "onnx"


def longest(questions: list[Question]) -> int:
    return max(len(question.prompt.ids) for question in questions) + NEW_TOKENS


def test_pictures_are_fewer_then_smaller_where_tokens_are_bounded(any_size: Path) -> None:
    """Never beyond the bound while anything fits, and never without a picture."""
    free = make_questions(any_size, NEW_TOKENS)
    assert longest(make_questions(any_size, NEW_TOKENS, longest(free))) == longest(free)
    assert [len(question.sample.images) for question in free] == [1, 2]
    fewer = make_questions(any_size, NEW_TOKENS, longest(free) - 1)
    assert [len(question.sample.images) for question in fewer] == [1, 1]
    smaller = make_questions(any_size, NEW_TOKENS, longest(fewer) - 1)
    assert longest(smaller) < longest(fewer)
    assert all(question.prompt.pictures for question in smaller)


def test_the_smallest_prompt_is_asked_where_nothing_fits(any_size: Path) -> None:
    """A bound that no picture meets does not end an export."""
    found = make_questions(any_size, NEW_TOKENS, 1)
    assert all(question.prompt.pictures for question in found)
    assert longest(found) < longest(make_questions(any_size, NEW_TOKENS))
