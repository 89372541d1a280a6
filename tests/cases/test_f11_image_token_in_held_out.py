"""A question that the model cannot be asked is named by line, before there is a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cases.command import topovlm

QUESTION = {"prompt": "What colour?", "answer": "red"}


def data(folder: Path, changed: int, change: dict[str, Any]) -> Path:
    """40 questions about pictures of their own, one of which is changed."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(40):
        picture = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append({"id": f"q{number}", "image": f"{number}.png", **QUESTION})
    rows[changed].update(change)
    file = folder / "d.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def held_out(folder: Path) -> int:
    """A question that measures accuracy and chooses nothing."""
    from topovlm.config import BY_NAME
    from topovlm.pipeline.data_split import hold_out
    from topovlm.samples import read_jsonl

    samples = read_jsonl(data(folder, 0, {}))
    chosen = hold_out(samples, BY_NAME["samples"].default, BY_NAME["judge_samples"].default, 0)[1][3]
    return int(chosen.id[1:])


CHANGES: dict[str, dict[str, Any]] = {
    "image token": {"prompt": "<image>\nWhat colour?"},
    "beyond the context": {"prompt": "word " * 3000},
    "beyond it with its answer": {"prompt": "1 " * 990},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("dry", [False, True])
def test_refused_by_line_before_the_run_directory(tmp_path: Path, name: str, dry: bool) -> None:
    """A deployment and its dry run refuse the same."""
    number = held_out(tmp_path)
    file = data(tmp_path, number, CHANGES[name])
    words = [
        "deploy",
        "--target",
        "jetson-orin-nano-8gb",
        "--drop",
        "8,9",
        "--data",
        file,
        "-o",
        tmp_path / "out",
    ]
    done = topovlm(*words, *(["--dry-run"] if dry else []), cwd=tmp_path, limit_s=60)
    assert done.refused, (done.code, done.last)
    assert f"d.jsonl:{number + 1}" in done.last
    assert not (tmp_path / "out").exists()


def test_a_sound_file_passes_the_dry_run(tmp_path: Path) -> None:
    """Nothing is refused that would run."""
    words = ["--target", "jetson-orin-nano-8gb", "--drop", "8,9", "--data", data(tmp_path, 0, {})]
    done = topovlm("deploy", *words, "--dry-run", "-o", tmp_path / "out", cwd=tmp_path)
    assert done.code == 0, done.last
    assert not (tmp_path / "out").exists()
