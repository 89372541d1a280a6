"""One number in a configuration fills neither the memory nor an evening."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import edit, mini, topovlm

_PLAN = ("plan", "--target", "jetson-orin", "--max-latency", "60%")
_PRUNE = ("prune", "--no-verify", "--drop", 1, "-o", "o")


def _refused(folder: Path, words: tuple[Any, ...], field: str) -> None:
    began = time.monotonic()
    done = topovlm(*words, "--model", folder, cwd=folder.parent, limit_s=20, memory_bytes=3_000_000_000)
    assert done.refused, done.err
    assert field in done.last
    assert time.monotonic() - began < 10
    assert not list(folder.parent.glob(".*tmp*"))


@pytest.mark.parametrize("layers", [100_000, 10**9, 10**30])
@pytest.mark.parametrize("words", [_PLAN, _PRUNE], ids=lambda words: words[0])
def test_layers(tmp_path: Path, words: tuple[Any, ...], layers: int) -> None:
    """A depth that no model has is refused before anything is counted up to it."""
    folder = mini(tmp_path / "m")
    more = {"num_hidden_layers": layers, "layer_types": None, "max_window_layers": 4}
    edit(folder / "config.json", lambda whole: whole["text_config"].update(more))
    _refused(folder, words, "num_hidden_layers")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("vision_config", "num_hidden_layers", 10**9),
        ("vision_config", "image_size", 10**6),
        ("vision_config", "hidden_size", 10**12),
        ("vision_config", "patch_size", -1),
        ("text_config", "vocab_size", 10**12),
        ("text_config", "num_attention_heads", 10**9),
        ("text_config", "num_labels", 10**9),
        ("", "image_seq_length", 10**9),
    ],
)
def test_other_numbers(tmp_path: Path, part: str, field: str, value: int) -> None:
    """Sizes of the tower and the decoder, classes and tokens likewise."""
    folder = mini(tmp_path / "m")
    edit(folder / "config.json", lambda whole: (whole[part] if part else whole).update({field: value}))
    _refused(folder, _PLAN, field)


@pytest.mark.parametrize(
    "value", [{"height": 20_000, "width": 20_000}, 20_000, [1, 20_000], "48", {"height": 0}]
)
def test_sizes_of_a_preprocessor(tmp_path: Path, value: Any) -> None:
    """A picture is never blown up to gigabytes; sizes that are none are refused by name."""
    folder = mini(tmp_path / "m")
    edit(folder / "preprocessor_config.json", lambda whole: whole.update(size=value))
    _refused(folder, _PLAN, "size")


def test_a_size_as_one_number(tmp_path: Path) -> None:
    """`"size": 48` is how older processors write a square."""
    folder = mini(tmp_path / "m")
    edit(folder / "preprocessor_config.json", lambda whole: whole.update(size=48))
    edit(folder / "processor_config.json", lambda whole: whole["image_processor"].update(size=48))
    assert topovlm(*_PLAN, "--model", folder, cwd=tmp_path).code in (0, 3)
