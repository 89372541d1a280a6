"""A reference that the metric cannot read is refused by file and line, before a model runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cases.command import topovlm
from tests.runtime.toy_export import Toy


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy().write(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize(
    ("metric", "answer"),
    [("letter", "2"), ("letter", "red"), ("letter", "A, C"), ("number", "three or four"), ("number", "1/2"),
     ("number", "NaN"), ("exact", "+"), ("exact", ""), ("relaxed", "!"), ("contains-all", ";"),
     ("facts", "the"), ("fact-f1", ""), ("leter", "A")],
)  # fmt: skip
def test_the_line_is_named(exported: Path, tmp_path: Path, metric: str, answer: str) -> None:
    """Today's loss would look smaller than it is: both models would be wrong."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "prompt": "what", "answer": "red"}] * 3
    rows.append({"image": "a.png", "prompt": "what", "answer": answer, "metric": metric})
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = topovlm("eval", exported, "--data", "d.jsonl", cwd=tmp_path)
    assert done.refused
    assert "d.jsonl:4: " in done.last
    assert ("metric = " if metric == "leter" else f"answer = {answer!r}") in done.last


def test_questions_that_only_choose_layers_are_checked_too(tmp_path: Path) -> None:
    """A file of questions is one set: which half measures is drawn. Nothing is written."""
    rows = [{"prompt": f"what {number}", "answer": "red"} for number in range(40)]
    for number in range(40):
        rows[number] = {**rows[number], "answer": "+"}
        (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
        rows[number]["answer"] = "red"
        if number in (0, 39):
            done = topovlm("score", "--data", "d.jsonl", "--samples", "8", cwd=tmp_path)
            assert done.refused
            assert f"d.jsonl:{number + 1}: " in done.last
