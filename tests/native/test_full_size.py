"""VideoLLaMA2 at its published sizes, names and shapes alone: the files are sparse and full of zeros."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

import topovlm
from tests.checkpoint.layouts import Shapes, pass_over_zeros, write
from tests.tiny_families.original import published
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.families.known_models import known_model
from topovlm.families.original import normal
from topovlm.native import videollama2

DROP = (12, 13, 20, 21)
MORE = {
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "architectures": ["Videollama2ForCausalLM"],
    "use_mm_proj": True,
}


@pytest.fixture(autouse=True)
def _holes(monkeypatch: pytest.MonkeyPatch) -> None:
    pass_over_zeros(monkeypatch)


def _shapes(config: dict[str, Any]) -> Shapes:
    """Published names of what our classes build."""
    with torch.device("meta"):
        model = videollama2.MODEL(videollama2.configuration(normal(config)))
    return {published(name): tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "tokens", "bytes_"),
    [
        ("videollama2-7b", 845, 16.07e9),  # of the hub's four files
        ("videollama2-7b-16f", 1521, 16.07e9),
        ("videollama2.1-7b-16f", 1352, None),
    ],
)
def test_a_published_model_is_read_and_cut(
    name: str, tokens: int, bytes_: float | None, tmp_path: Path
) -> None:
    """The shards are recognised whole; what is left is what our classes build of what was written."""
    config = {**known_model(name).config, **MORE}
    dense = _shapes(config)
    total = 2 * sum(map(prod, dense.values()))
    assert bytes_ is None or total == pytest.approx(bytes_, rel=1e-3)
    folder = write(tmp_path / "dense", config, dense)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.weight_bytes == total
    assert checkpoint.facts.visual_tokens(checkpoint.facts.workload(images=1)) == tokens
    report = prune_checkpoint(checkpoint, tmp_path / "slim", DROP)
    after = json.loads((tmp_path / "slim" / "config.json").read_text())
    assert set(after) - {"layer_types"} == set(config)
    slim = open_checkpoint(tmp_path / "slim")
    assert {key: entry.shape for key, entry in slim.tensors.items()} == _shapes(after)
    assert slim.layers == len(report.kept) == checkpoint.layers - len(DROP)


def test_a_dry_run_plans_the_folder(tmp_path: Path) -> None:
    """Of a folder without an image processor's file: what the tower's id implies is enough."""
    config = {**known_model("videollama2.1-7b-16f").config, **MORE}
    folder = write(tmp_path / "dense", config, _shapes(config))
    plan = topovlm.plan(model=folder, target="jetson-agx-orin", sparsity="25%")
    assert (plan.workload.visual_tokens, plan.keep_layers, plan.total_layers) == (1352, 21, 28)
