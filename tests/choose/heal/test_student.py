"""What the student is taught and how far it is from its teacher, against stock forward passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.live import Live, answered, collate, encode, greedy, load
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.heal.around import behind_cuts, beside
from topovlm.choose.heal.lessons import Lesson, first_learner, prepare_lessons
from topovlm.choose.heal.student import Student, learns
from topovlm.choose.heal.trainable import find_trainable
from topovlm.choose.judge import Judge

SAMPLES = tiny.samples(5, seed=3)


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


def student_of(live: Live, folder: Path, drop: list[int]) -> tuple[Student, list[Lesson]]:
    prune_checkpoint(live.folder, folder, drop)
    student = Student(load(folder), live, frozenset(drop), first_learner(drop, live.layers))
    return student, prepare_lessons(live, SAMPLES, drop, max_new_tokens=3, batch_size=5)


def test_what_lies_beside_cuts() -> None:
    """Two cuts may share a neighbour; one at either end has one; nothing learns before a cut from layer 0."""
    assert beside([2, 4], 6) == (1, 3, 5)
    assert beside([3, 4, 5], 6) == (2,)
    assert beside([0, 1], 6) == (2,)
    assert behind_cuts([2, 4], 6) == (3, 5)
    assert behind_cuts([0, 1, 4, 5], 6) == (6,)


@pytest.mark.parametrize("drop", [[2, 4], [0, 3], [4, 5]])
def test_it_is_as_far_from_its_teacher_as_the_judge_says(drop: list[int], live: Live, tmp_path: Path) -> None:
    """Sample by sample; also where a cut has nothing before it, or nothing behind."""
    student, lessons = student_of(live, tmp_path / "slim", drop)
    judge = Judge(live, SAMPLES, max_new_tokens=3)
    found = student.judged(lessons)
    np.testing.assert_allclose(found.kl, judge.of([drop])[0].kl, rtol=1e-3, atol=1e-5)


def test_streams_are_those_of_transformers(live: Live, tmp_path: Path) -> None:
    """Of every sample alone, whatever batch it was in: those that teach, and those that learn."""
    student, (lesson,) = student_of(live, tmp_path / "slim", [2, 4])
    assert set(lesson.dense) == {3, 5, 6}
    ours = student.streams(lesson)
    for row, sample in enumerate(SAMPLES[index] for index in lesson.samples):
        prompt = encode(live, sample)
        whole = collate(live, [answered(live, prompt, greedy(live, [prompt], 3)[0])])
        whole.pop("attention_mask")
        length = whole["input_ids"].shape[1]
        with torch.inference_mode():
            dense, slim = (
                model.model.model(**whole, output_hidden_states=True).hidden_states
                for model in (live, student.live)
            )
        for point, of_slim in ((3, 2), (5, 3)):
            torch.testing.assert_close(
                lesson.dense[point][row, :length], dense[point][0], rtol=1e-3, atol=1e-3
            )
            torch.testing.assert_close(ours[point][row, :length], slim[of_slim][0], rtol=1e-3, atol=1e-3)


def test_text_and_answers_are_told_apart(live: Live, tmp_path: Path) -> None:
    """Every token but the first and the pieces of pictures is predicted once: as text or as answer."""
    _, (lesson,) = student_of(live, tmp_path / "slim", [2])
    for row in range(len(lesson.samples)):
        words = int(lesson.words[row].sum())
        predicted = int((lesson.rows == row).sum()) + int((lesson.text_rows == row).sum())
        assert predicted == words - int(lesson.words[row, 0])
    places = {*zip(lesson.rows.tolist(), lesson.positions.tolist(), strict=True)}
    assert not places & {*zip(lesson.text_rows.tolist(), lesson.text_positions.tolist(), strict=True)}


def test_layers_that_run_again_learn_the_same(live: Live, tmp_path: Path) -> None:
    """Less is kept for the way back; gradients are the same."""
    student, (lesson,) = student_of(live, tmp_path / "slim", [2, 4])
    learners = find_trainable(student.live, open_checkpoint(tmp_path / "slim"), [2, 4], live.layers)
    learns(learners.parameters.values())
    found = []
    for one in (student, replace(student, recompute=True)):
        loss = one.loss(lesson, np.random.default_rng(0))
        values = list(learners.parameters.values())
        found.append([loss.detach(), *torch.autograd.grad(loss, values, allow_unused=True)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_student_like_its_teacher_has_nothing_to_learn(live: Live) -> None:
    """Nothing is lost where no layer went, and the loss of a worse one is above."""
    lessons = prepare_lessons(live, SAMPLES, [2], max_new_tokens=3, batch_size=5)
    same = Student(live, live, frozenset(), 1)
    loss = same.loss(lessons[0], np.random.default_rng(0))
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert same.judged(lessons).same.tolist() == [1.0] * 5
