"""Samples of the benchmark: one picture, one question each, balanced answers, the categories in turn.

samples("test", 2600)           held out: no drawn content, no flag, emoji, table or word of them trains
samples("calibration", 520)     neither trained nor tested on
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.smol.makers import CATEGORIES, MAKERS
from benchmarks.smol.wordings import asked_as
from topovlm.reference.data import rarest
from topovlm.reference.scenes import SPLITS
from topovlm.samples import Sample

TEST_COUNT, CALIBRATION_COUNT = 2600, 520


def samples(
    split: str, count: int, seed: int = 0, categories: tuple[str, ...] = tuple(CATEGORIES)
) -> list[Sample]:
    """`count` samples, each about a picture of its own; a longer list starts with the shorter one."""
    asked: Counter[tuple[str, str]] = Counter()
    made = []
    for number, category in zip(range(count), itertools.cycle(categories), strict=False):
        rng = np.random.default_rng([seed, SPLITS.index(split), number, *category.encode()])
        scene, question = rarest(rng, split, category, asked, MAKERS[CATEGORIES[category]])
        asked[category, question.answer] += 1
        question = asked_as(question, rng)
        identity = f"{split}-{seed}-{number}-{category}"
        made.append(
            Sample(
                id=identity,
                images=tuple(Image.fromarray(frame) for frame in scene.frames),
                prompt=question.prompt,
                answer=question.answer,
                category=category,
                metric=question.metric,
                chance=question.chance,
                group=identity,
            )
        )
    return made


def write(folder: Path, split: str, count: int, seed: int = 0) -> Path:
    """`SPLIT.jsonl` as `topovlm deploy --data` reads it, its pictures in `SPLIT/`."""
    pictures = folder / split
    pictures.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, sample in enumerate(samples(split, count, seed)):
        files = []
        for frame, image in enumerate(sample.images):
            assert isinstance(image, Image.Image)
            name = f"{number:05d}-{frame}.png" if len(sample.images) > 1 else f"{number:05d}.png"
            image.save(pictures / name)
            files.append(f"{split}/{name}")
        row = {"id": sample.id, "image": files if len(files) > 1 else files[0], "prompt": sample.prompt,
               "answer": sample.answer, "category": sample.category, "metric": sample.metric,
               "chance": round(sample.chance, 6)}  # fmt: skip
        rows.append(json.dumps(row))
    file = folder / f"{split}.jsonl"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file
