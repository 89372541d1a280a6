"""What models really said: the raw answers that the authors of MMMU and BLINK publish, as rows and texts.

Both repositories are Apache-2.0: github.com/MMMU-Benchmark/MMMU (bb0b95a), github.com/zeyofu/BLINK_Benchmark
(2d6a779).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.tasks.golden_rows import Row, blink_row, mmmu_row

Asked = tuple[Row, list[str]]  # a row, and what models answered


def mmmu(repository: Path) -> Iterator[Asked]:
    """Two models, 900 validation questions; multiple choice and open."""
    said: dict[str, list[str]] = {}
    rows: dict[str, Row] = {}
    for file in sorted(repository.glob("mmmu/example_outputs/*/*/output.json")):
        for one in json.loads(file.read_text(encoding="utf-8")):
            options = list((one.get("index2ans") or {}).values())
            made = mmmu_row(0, "", options, str(one["answer"]))
            if re.search(r"<image (?![1-7]>)", str(options)):  # a slip of the data: no column holds it
                continue
            pictures = {f"image_{k}": f"{k}.png" for k in range(1, 8)}
            rows[one["id"]] = {**made, **pictures, "id": one["id"], "question": "<image 1>"}
            said.setdefault(one["id"], []).append(one["response"])
    yield from ((rows[name], list(dict.fromkeys(texts))) for name, texts in said.items())


def blink(repository: Path) -> Iterator[Asked]:
    """Some twenty models, 1,901 validation questions. Their options are not told: four are taken for all."""
    said: dict[str, list[str]] = {}
    answers: dict[str, str] = {}
    for file in sorted(repository.glob("eval/saved_outputs/*/*.json")):
        for one in json.loads(file.read_text(encoding="utf-8")).get("val", []):
            text: Any = one.get("full_prediction")
            if isinstance(text, str) and one["answer"][1:2] in tuple("ABCD"):
                answers[one["idx"]] = one["answer"]
                said.setdefault(one["idx"], []).append(text)
    for name, texts in said.items():
        row = blink_row(0, "", ["first", "second", "third", "fourth"], answers[name])
        yield {**row, "idx": name}, list(dict.fromkeys(texts))


READERS: dict[str, Callable[[Path], Iterator[Asked]]] = {"mmmu": mmmu, "blink": blink}


def some(asked: Iterator[Asked], most: int | None) -> list[Asked]:
    """All, or so many texts that are more than a letter, drawn by a seed, the short ones of them."""
    if most is None:
        return list(asked)
    wordy = [(row, t) for row, texts in asked for t in texts if 3 < len(t) <= 300]
    drawn = random.Random(13).sample(wordy, min(most, len(wordy)))
    return [(row, [text]) for row, text in drawn]
