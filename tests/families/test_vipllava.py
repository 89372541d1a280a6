"""A second family is one data file: ViP-LLaVA, whose pictures are read from several tower layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.exporters.answers import greedy
from topovlm.checkpoint.live import load
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import verify_checkpoint
from topovlm.errors import InputError
from topovlm.exporters.onnx.export import export_onnx
from topovlm.families.facts import ModelFacts
from topovlm.runtime.engine import Engine

DROP = [2, 3]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 layers; features of the tower's last, second-to-last and first layer side by side."""
    return tiny.build(
        tmp_path_factory.mktemp("vip") / "dense",
        "clip-llama",
        model_type="vipllava",
        top={"vision_feature_layer": [-1, -2, 1], "vision_feature_select_strategy": None},
    )


def test_it_is_pruned_exported_and_run(dense: Path, tmp_path: Path) -> None:
    """Surgery equals the bypassed dense model, graphs pass their gate, the runtime answers like torch."""
    prune_checkpoint(dense, tmp_path / "slim", DROP)
    report = verify_checkpoint(tmp_path / "slim", dense=dense, dropped=DROP)
    assert report.layers == 4
    exported = export_onnx(tmp_path / "slim", tmp_path / "onnx")
    assert {row.graph for row in exported.parity} == {"decoder", "decoder_fused"}
    pairs = [(tiny.picture(seed, 32), tiny.PROMPTS[seed]) for seed in range(2)]
    for variant in ("plain", "fused"):
        engine = Engine(tmp_path / "onnx", variant=variant, threads=1)
        got = [engine.generate([image], prompt, max_new_tokens=6).token_ids for image, prompt in pairs]
        assert got == greedy(tmp_path / "slim", pairs, 6)


def test_it_is_counted_as_it_is_computed(dense: Path) -> None:
    """Sizes for prediction: the tokens that the processor makes, the weights that torch holds."""
    live = load(dense)
    facts = ModelFacts(json.loads((dense / "config.json").read_text()))
    vision = facts.shape.vision
    assert vision is not None
    ids = live.processor(images=tiny.picture(0, 32), text=tiny.IMAGE)["input_ids"][0]
    assert facts.visual_tokens(facts.workload()) == ids.count(live.image_token_id) == 16
    projector = [p for p in live.parts.projector.parameters() if p.ndim == 2]
    assert vision.projector_params_per_token == sum(p.numel() for p in projector)
    assert vision.layers == 2


def test_an_older_name_of_its_layers_is_read(dense: Path) -> None:
    """`vision_feature_layers`, as older releases of transformers write it, is no default."""
    config = json.loads((dense / "config.json").read_text())
    stated = config.pop("vision_feature_layer")
    older = ModelFacts({**config, "vision_feature_layers": stated})
    assert older.shape == ModelFacts({**config, "vision_feature_layer": stated}).shape
    with pytest.raises(InputError, match="vision_feature_layer"):  # its default is of deeper towers
        _ = ModelFacts(config).shape
