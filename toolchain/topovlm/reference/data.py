"""Samples of the reference benchmark: one picture, one question each, balanced answers.

    samples("test", 2080, seed=0)     the held-out benchmark
    samples("calibration", 256, 1)    pictures neither trained nor tested on

Categories mirror the benchmarks of the literature: diagram (AI2D), bar_chart and line_chart (ChartQA),
counting, colour, shape, position, comparison (BLINK, MMBench), digits and arithmetic (MathVista),
motion and order over three frames (MVBench, NExT-QA), and describe, which is generative.
"""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.reference.makers import CATEGORIES, MAKERS, Maker
from topovlm.reference.scenes import SPLITS, Question, Scene
from topovlm.samples import Sample

TEST_COUNT = 2080
TEST_SEED = 0
# Pictures drawn per question; among their questions the one with the rarest answer so far is asked.
_DRAWS = 3


def samples(
    split: str, count: int, seed: int = 0, categories: tuple[str, ...] = tuple(CATEGORIES)
) -> list[Sample]:
    """`count` samples, the categories in turn, each about a picture of its own.

    Deterministic in (split, seed, categories): a longer list starts with the shorter one.
    Raises `InputError` for an unknown split or category.
    """
    if split not in SPLITS:
        raise InputError(explain("split", split, f"is none of {', '.join(SPLITS)}"))
    unknown = [category for category in categories if category not in CATEGORIES]
    if unknown:
        raise InputError(explain("categories", unknown, f"are none of {', '.join(CATEGORIES)}"))
    asked: Counter[tuple[str, str]] = Counter()
    made = []
    for number, category in zip(range(count), itertools.cycle(categories), strict=False):
        rng = np.random.default_rng([seed, SPLITS.index(split), number, *category.encode()])
        scene, question = rarest(rng, split, category, asked, MAKERS[CATEGORIES[category]])
        asked[_kind(question)] += 1
        made.append(_sample(f"{split}-{seed}-{number}-{category}", scene, question))
    return made


def _kind(question: Question) -> tuple[str, str]:
    return question.category, question.answer


def rarest(
    rng: np.random.Generator,
    split: str,
    category: str,
    asked: Counter[tuple[str, str]],
    make: Maker,
) -> tuple[Scene, Question]:
    """Of some questions of a category, in scenes that `make` draws, the one with the rarest answer so far."""
    drawn: list[tuple[Scene, Question]] = []
    while len(drawn) < _DRAWS:
        scene = make(rng, split)
        fitting = [question for question in scene.questions if question.category == category]
        if fitting:
            drawn.append((scene, fitting[int(rng.integers(len(fitting)))]))
    return min(drawn, key=lambda pair: asked[_kind(pair[1])])


def _sample(identity: str, scene: Scene, question: Question) -> Sample:
    return Sample(
        id=identity,
        images=tuple(Image.fromarray(frame) for frame in scene.frames),
        prompt=question.prompt,
        answer=question.answer,
        category=question.category,
        metric=question.metric,
        chance=question.chance,
        group=identity,
    )
