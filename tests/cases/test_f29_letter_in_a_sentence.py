"""What chat models say to a multiple-choice question, scored (tests/evaluation/test_letters.py has more)."""

from __future__ import annotations

import pytest

from topovlm.evaluation.metrics import score_answer
from topovlm.evaluation.task import UNPARSED, Scored


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is B. Note that A is a common mistake.", "B"),
        ("Answer: (B) the cat", "B"),
        ("The correct answer is A, because the bar is taller.", "A"),
        ("Option B is correct.", "B"),
        ("<answer>B</answer>", "B"),
        ("答案：B", "B"),
        ("Antwort: B", "B"),
    ],
)
def test_a_declared_letter_counts(text: str, answer: str) -> None:
    """Although words follow; and another letter is wrong, not unparsed."""
    assert score_answer("letter", text, answer) == Scored(1.0)
    assert score_answer("letter", text, "D") == Scored(0.0)


@pytest.mark.parametrize(
    ("text", "answer"), [("Not option A", "A"), ("It cannot be option B", "B"), ("No answer I", "I")]
)
def test_what_is_ruled_out_is_no_answer(text: str, answer: str) -> None:
    """Neither right nor a wrong choice."""
    assert score_answer("letter", text, answer) == UNPARSED
