"""The reference benchmark: deterministic, balanced, and held out by content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from topovlm.errors import InputError
from topovlm.evaluation.metrics import score_answer
from topovlm.evaluation.task import Scored
from topovlm.reference.data import samples
from topovlm.reference.drawing import digit_pool
from topovlm.reference.makers import CATEGORIES, MAKERS

ROUND = len(CATEGORIES)


def _pixels(sample) -> bytes:
    return b"".join(image.tobytes() for image in sample.load_images())


def test_same_arguments_give_the_same_samples_and_longer_lists_extend_shorter_ones():
    """A sample list is reproducible, and asking for more keeps what was there."""
    short, long = samples("test", ROUND, seed=3), samples("test", 2 * ROUND, seed=3)
    for a, b in zip(short, long, strict=False):
        assert (a.id, a.prompt, a.answer, _pixels(a)) == (b.id, b.prompt, b.answer, _pixels(b))
    other = samples("test", ROUND, seed=4)
    assert [s.prompt for s in other] != [s.prompt for s in short] or _pixels(other[0]) != _pixels(short[0])


def test_categories_take_turns():
    """Every category has the same number of questions."""
    assert set(Counter(s.category for s in samples("calibration", 3 * ROUND)).values()) == {3}


@pytest.mark.parametrize("maker", [m for m in MAKERS if m not in ("digits", "arithmetic")])
def test_no_content_is_in_two_splits(maker: str):
    """What a test picture shows was never trained on: the same facts do not occur in another split."""

    def contents(split: str) -> set:
        rng = np.random.default_rng(5)
        scenes = [MAKERS[maker](rng, split) for _ in range(150)]
        return {
            tuple((r.frame, *sorted(r.labels.items()), *(round(v / 8) for v in r.box)) for r in s.regions)
            for s in scenes
        }

    train, test = contents("train"), contents("test")
    # Boxes jitter within a cell, so equality of the rounded content is a necessary sign of a leak.
    assert len(train & test) <= len(test) * 0.02


def test_handwriting_is_disjoint():
    """No digit image serves two splits, and every split has every digit."""
    pools = {split: digit_pool(split) for split in ("train", "calibration", "test")}
    used = [set(np.concatenate(pool).tolist()) for pool in pools.values()]
    assert not used[0] & used[1]
    assert not used[0] & used[2]
    assert not used[1] & used[2]
    assert all(len(indices) > 10 for pool in pools.values() for indices in pool)


def test_reference_answers_are_right_by_their_own_metric():
    """Every answer of every category is parsed and counted as right."""
    for sample in samples("test", 6 * ROUND, seed=11):
        assert score_answer(sample.metric, sample.answer, sample.answer) == Scored(1.0), sample


def test_counting_and_charts_have_no_dominant_answer():
    """A constant reply gains little: the commonest answer stays below 40 %, chance is declared."""
    asked = samples("test", 60 * 3, categories=("counting", "bar_chart", "line_chart"))
    for category in ("counting", "bar_chart", "line_chart"):
        counts = Counter(s.answer for s in asked if s.category == category)
        assert max(counts.values()) / counts.total() < 0.4
    assert all(0 < s.chance < 1 for s in asked)


def test_frame_categories_have_three_pictures():
    """motion and order come as several images."""
    assert {len(s.images) for s in samples("test", 4, categories=("motion", "order"))} == {3}


@pytest.mark.parametrize("kwargs", [{"split": "dev"}, {"split": "test", "categories": ("ocr",)}])
def test_unknown_names_are_refused(kwargs: dict):
    """An unknown split or category is an input error that lists the known ones."""
    with pytest.raises(InputError, match="none of"):
        samples(count=1, **kwargs)


def test_samples_do_not_depend_on_the_process():
    """Another process, with another seed of its string hashes, draws the same samples."""
    code = (
        "import hashlib; from topovlm.reference.data import samples\n"
        "digest = hashlib.sha256()\n"
        "for s in samples('test', 39, 1):\n"
        "    digest.update(repr((s.prompt, s.answer)).encode())\n"
        "    digest.update(b''.join(i.tobytes() for i in s.load_images()))\n"
        "print(digest.hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
