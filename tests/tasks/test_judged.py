"""MathVista's rule against readings of a GPT model, as its authors' repository holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.tasks.judged import KINDS, judged, table

from topovlm.errors import InputError

# (response, what the judge extracted, whether it counted it right), of a question whose answer is "dog"
ANSWERS = (
    ("The animal is a dog.", "B", True),
    ("It has four legs.", "B", True),
    ("It is a bird.", "nothing of these", True),
    ("The answer is (A).", "(B)", True),
    ("The answer is (B).", "A", False),
    ("I see a cat.", "A", False),
)


def _outputs(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    file = folder / "results" / name.partition("/")[0] / f"output_{name.partition('/')[2]}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({str(number): row for number, row in enumerate(rows)}))


def test_differences_are_counted_by_kind(tmp_path: Path) -> None:
    """Guesses of the judge, what it read and we did not, and what we count right; the rest agrees."""
    about = {"question": "What is it?", "choices": ["cat", "dog", "a cow"], "answer": "dog", "unit": None,
             "precision": None, "question_type": "multi_choice", "answer_type": "text"}  # fmt: skip
    rows = [
        {**about, "pid": str(n), "response": text, "extraction": said, "true_false": right}
        for n, (text, said, right) in enumerate(ANSWERS)
    ]
    _outputs(tmp_path, "llava/llava_7b", rows)
    _outputs(tmp_path, "gpt4/gpt4_2shot_code", rows)  # programs
    _outputs(tmp_path, "random/random_guess", rows)
    found = judged(tmp_path)
    assert list(found) == ["llava_7b"]
    one = found["llava_7b"]
    assert (one.answers, one.agreeing, one.judge_right, one.rule_right) == (6, 2, 4, 2)
    assert one.differing == dict.fromkeys(KINDS, 1)
    lines = table(found)
    assert len(lines) == 4
    assert lines[-1].startswith("| all | 6 | 4 | 2 |")
    assert "33.3%" in lines[-1]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    """With what is wanted."""
    with pytest.raises(InputError, match="a checkout of lupantech/MathVista"):
        judged(tmp_path)
