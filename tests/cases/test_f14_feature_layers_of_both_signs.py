"""Lists of tower layers that count from both ends: the tower runs as deep as the deepest entry says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import Done, edit, reference_copy, topovlm


def _plan(tmp_path: Path, layers: Any, *, json_too: bool = True) -> Done:
    folder = tmp_path / "m"
    if not folder.exists():
        reference_copy(folder)
        edit(folder / "config.json", lambda whole: whole["vision_config"].update(num_hidden_layers=24))
    edit(folder / "config.json", lambda whole: whole.update(vision_feature_layer=layers))
    words = ("plan", "--target", "jetson-orin", "--max-latency", "90%", "--model", folder)
    return topovlm(*words, *(["--json"] if json_too else []), cwd=tmp_path)


def _vision_ms(done: Done) -> float:
    return float(json.loads(done.out)["rows"][-1]["vision_ms"]["value"])


def test_the_deepest_counts(tmp_path: Path) -> None:
    """-2 is deeper than 6 in a tower of 24 layers, wherever it stands in the list."""
    deep, shallow = _vision_ms(_plan(tmp_path, -2)), _vision_ms(_plan(tmp_path, 6))
    assert shallow < 0.7 * deep
    for layers in ([-2, -5, -8, -11, 6], [3, -2], [6, -2], [23]):
        assert _vision_ms(_plan(tmp_path, layers)) >= 0.98 * deep


@pytest.mark.parametrize("layers", [25, [25], [-2, -26], "x", ["x"], [], True, [1.5], {"a": 1}])
def test_what_names_no_layer_is_refused(tmp_path: Path, layers: Any) -> None:
    """Out of range, words, nothing: exit 2 with the field."""
    done = _plan(tmp_path, layers, json_too=False)
    assert done.refused, done.err
    assert "vision_feature_layer" in done.last
