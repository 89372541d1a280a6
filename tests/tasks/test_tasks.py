"""The tasks there are: opened by name, each with questions that its own rule can score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from topovlm.errors import InputError
from topovlm.evaluation.evaluate import check_samples, score_text
from topovlm.tasks import TASKS, open_task


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two questions, one right or wrong, one graded."""
    rows = [
        {"prompt": "How many?", "answer": "3", "metric": "number", "category": "counting"},
        {
            "prompt": "What is there?",
            "answer": "red dot, blue dot",
            "metric": "fact-f1",
            "family": "describe",
        },
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_data_decide_which_task_it_is(data: Path) -> None:
    """Without a name: the user's file where there is one, else the shipped benchmark."""
    assert (open_task(None, data).name, open_task(None, None).name) == ("jsonl", "reference")
    assert open_task("jsonl", data).source == "questions.jsonl"
    assert set(TASKS.names()) >= {"jsonl", "reference"}


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("jsonl", False, "needs a file of questions"),
        ("reference", True, "brings its own questions"),
        ("refrence", False, "--task = 'refrence'.*Did you mean reference"),
    ],
)
def test_a_task_that_cannot_be_opened_says_why(data: Path, name: str, given: bool, words: str) -> None:
    """A file that is missing, one too many, a name that is not known."""
    with pytest.raises(InputError, match=words):
        open_task(name, data if given else None)


def test_a_users_questions_are_scored_by_their_own_metric(data: Path) -> None:
    """One file may hold right-or-wrong questions and graded ones; `family` is read as the category."""
    task = open_task(None, data)
    count, describe = task.samples("test", 10, 0)
    assert (count.category, describe.category) == ("counting", "describe")
    assert task.samples("test", 1, 0) == [count]
    assert score_text(task, count, "three").score == 1
    half = score_text(task, describe, "a red dot, a green dot")
    assert (half.score, half.parse) == (0.5, "parsed")
    assert score_text(task, describe, " ").parse == "unparsed"
    with pytest.raises(InputError, match="one set"):
        task.samples("calibration", 10, 0)


def test_an_unknown_metric_is_named_with_its_line(data: Path) -> None:
    """Before any model runs, with file, line and the metrics there are."""
    data.write_text(json.dumps({"prompt": "?", "answer": "a", "metric": "bleu"}))
    task = open_task(None, data)
    with pytest.raises(InputError, match=r"questions\.jsonl:1: metric = 'bleu'.*letter"):
        check_samples(task, task.samples("test", 10, 0))


def test_the_shipped_benchmark_keeps_its_test_split() -> None:
    """The held-out questions are the same whatever the seed; those that choose layers are drawn by it."""
    task = open_task("reference", None)
    test = [task.samples("test", 4, seed) for seed in (0, 7)]
    assert [[s.id for s in asked] for asked in test] == [[s.id for s in test[0]]] * 2
    drawn = [{s.id for s in task.samples("calibration", 4, seed)} for seed in (0, 7)]
    assert not drawn[0] & drawn[1]
    check_samples(task, test[0])
    assert all(task.score(sample, sample.answer or "").score == 1 for sample in test[0])
