"""Prompts that are longer than the model's context: refused by every command, in little memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cases.command import topovlm

ADDRESSES = 8_000_000 << 10  # as `ulimit -v 8000000`
LONG = "word " * 3000


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 questions of 3,000 words each, and the shipped model exported."""
    folder = tmp_path_factory.mktemp("context")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(48):
        picture = rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"p{number % 24}.png")
        rows.append({"image": f"p{number % 24}.png", "prompt": f"{LONG}{number}", "answer": "red"})
    (folder / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert topovlm("export", "--model", "reference", "-o", folder / "onnx", cwd=folder).code == 0
    return folder


def bounded(room: Path, *words: object) -> Any:
    return topovlm(*words, cwd=room, limit_s=60, memory_bytes=ADDRESSES)


TARGET = ("--target", "jetson-orin", "--max-latency", "200ms")


@pytest.mark.parametrize("command", ["deploy", "score"])
def test_questions_are_refused_by_line(room: Path, tmp_path: Path, command: str) -> None:
    """Before any work: scoring needed 13 GB for such prompts."""
    more = (*TARGET, "--eval-samples", 8, "-o", tmp_path / "out") if command == "deploy" else ()
    done = bounded(room, command, *more, "--data", "long.jsonl")
    assert done.refused, (done.code, done.last)
    assert "long.jsonl:" in done.last
    assert "context of 2048" in done.last
    assert not (tmp_path / "out").exists()


def test_an_evaluation_is_refused_by_line(room: Path) -> None:
    """Of exported graphs."""
    done = bounded(room, "eval", "onnx", "--data", "long.jsonl")
    assert done.refused, (done.code, done.last)
    assert "long.jsonl:1" in done.last


@pytest.mark.parametrize(
    "words",
    [
        ("run", "onnx", "--image", "p0.png", "--prompt", LONG),
        ("run", "onnx", "--image", "p0.png", "--prompt", "What?", "--max-new-tokens", 5000),
        ("bench", "onnx", "--prompt-tokens", 3000),
        ("bench", "onnx", "--new-tokens", 3000),
        ("plan", *TARGET, "--prompt-tokens", 3000),
        ("deploy", *TARGET, "--prompt-tokens", 3000, "--dry-run"),
    ],
    ids=lambda words: " ".join(map(str, words))[:40],
)
def test_what_is_asked_on_the_command_line(room: Path, words: tuple[object, ...]) -> None:
    """The prompt, or the prompt and its answer."""
    done = bounded(room, *words)
    assert done.refused, (done.code, done.last)
    assert "context of 2048" in done.last
