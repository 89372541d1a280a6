"""Asking an engine and scoring its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from topovlm.errors import InputError
from topovlm.evaluation.evaluate import check_samples, evaluate, outcomes_sha256, pair, score_text
from topovlm.samples import Sample
from topovlm.tasks.jsonl import JsonlTask

TASK = JsonlTask(Path("questions.jsonl"))  # never read: the questions below are made in memory


@dataclass
class Said:
    text: str


class RedOrNot:
    """An engine that really looks: it says whether a picture's first pixel is red."""

    def generate_batch(
        self, items: Sequence[tuple[list[Image.Image], str]], batch_size: int, max_new_tokens: int
    ) -> list[Said]:
        pixels = [images[0].getpixel((0, 0)) for images, _ in items]
        return [Said("Yes." if pixel == (255, 0, 0) else "No.") for pixel in pixels]


def questions(count: int = 7) -> list[Sample]:
    """Alternately red and blue pictures, all said to be red."""
    colours = ((255, 0, 0), (0, 0, 255))
    return [
        Sample(str(i), (Image.new("RGB", (2, 2), colours[i % 2]),), "Is it red?", "yes", "colour", chance=0.5)
        for i in range(count)
    ]


def test_outcomes_keep_order_and_identity() -> None:
    """One outcome per question, in order, whatever the chunk size; progress reaches the total."""
    seen: list[tuple[int, int]] = []
    outcomes = evaluate(
        RedOrNot(), TASK, questions(), chunk=3, progress=lambda done, total: seen.append((done, total))
    )
    assert [o.id for o in outcomes] == [str(i) for i in range(7)]
    assert [o.score for o in outcomes] == [1, 0, 1, 0, 1, 0, 1]
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert outcomes == evaluate(RedOrNot(), TASK, questions())


def test_a_question_without_group_is_its_own_cluster() -> None:
    """The cluster is the picture where it is known, else the question."""
    sample = questions(1)[0]
    assert score_text(TASK, sample, "yes").group == "0"
    assert score_text(TASK, replace(sample, group="scene"), "yes").group == "scene"


def test_what_cannot_be_scored_is_refused_before_any_model_runs() -> None:
    """No questions, no answer, an unknown metric, a repeated id: each named."""
    sample = questions(1)[0]
    for samples, message in (
        ([], "nothing to evaluate on"),
        ([replace(sample, answer=None)], "answer = '0'"),
        ([replace(sample, metric="bleu")], "metric = 'bleu'"),
        ([sample, sample], "occurs twice"),
    ):
        with pytest.raises(InputError, match=message):
            check_samples(TASK, samples)


def test_pairs_are_matched_by_id() -> None:
    """Outcomes in another order are still paired; other questions are an error."""
    outcomes = evaluate(RedOrNot(), TASK, questions())
    assert all(a == b for a, b in pair(outcomes, outcomes[::-1]))
    with pytest.raises(ValueError, match="same questions"):
        pair(outcomes, outcomes[1:])


def test_the_question_set_has_an_identity_apart_from_the_answers() -> None:
    """The hash depends on what was asked, not on what was said or in which order."""
    outcomes = evaluate(RedOrNot(), TASK, questions())
    other = [replace(o, text="?", score=0.0) for o in outcomes[::-1]]
    assert outcomes_sha256(outcomes) == outcomes_sha256(other)
    assert outcomes_sha256(outcomes) != outcomes_sha256(outcomes[1:])
