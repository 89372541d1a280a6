"""Cutting layers out of a decoder graph, against the toy transformer that has only those layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError, VerificationError
from topovlm.exporters.onnx.slices import cut_layers, layer_starts, slice_export
from topovlm.runtime.engine import Engine


def shallow(toy: Toy, keep: int) -> Toy:
    """The toy with its first keep - 1 layers and its last."""
    other = Toy(layers=keep, position_ids=toy.position_ids, keeps=toy.keeps, stacked=toy.stacked)
    weights = toy.weights
    for new, old in enumerate([*range(keep - 1), toy.layers - 1]):
        other.weights.update({f"{name}{new}": weights[f"{name}{old}"] for name in "qkvom"})
    for name in ("table", "position", "head", "project", *(f"deep{i}" for i in range(toy.stacked))):
        other.weights[name] = weights[name]
    return other


@pytest.mark.parametrize("change", [{}, {"position_ids": False}, {"keeps": True}, {"stacked": 1}], ids=str)
@pytest.mark.parametrize("keep", [2, 4, 6])
def test_slice_is_the_model_with_those_layers(tmp_path: Path, keep: int, change: dict[str, Any]) -> None:
    """A sliced export generates what the oracle with those layers generates, cache and all."""
    toy = Toy(layers=6, **change)
    folder = toy.write(tmp_path / "x", ("plain", "fused"))
    engine = Engine(slice_export(folder, keep, tmp_path / "cut", "plain"), threads=1)
    assert engine.manifest.layers == keep
    assert set(engine.manifest.decoders) == {"plain"}
    expected = shallow(toy, keep)
    picture = Image.new("RGB", (8, 8), (90, 40, 200))
    for item in (([], "red"), ([picture], "what colour is the ball")):
        ready = engine.prepare(*item)
        logits = engine.answer_logits([item])[0]
        np.testing.assert_allclose(logits, expected.logits(ready), rtol=1e-4, atol=1e-4)
        assert engine.generate(*item, 6).token_ids == expected.generate(ready, 6)


def test_sources_are_untouched_and_shared(tmp_path: Path) -> None:
    """The original still runs as before; unchanged files are links; the sliced graph is smaller and valid."""
    toy = Toy(layers=4)
    folder = toy.write(tmp_path / "x")
    before = (folder / "onnx/decoder_model_merged.onnx").read_bytes()
    cut = slice_export(folder, 2, tmp_path / "cut")
    assert (folder / "onnx/decoder_model_merged.onnx").read_bytes() == before
    assert (cut / "onnx/vision_encoder.onnx").samefile(folder / "onnx/vision_encoder.onnx")
    assert (cut / "onnx/decoder_model_merged.onnx").stat().st_size < len(before)
    onnx.checker.check_model(str(cut / "onnx/decoder_model_merged.onnx"), full_check=True)


def test_outputs_that_are_left_out_keep_nothing_alive(tmp_path: Path) -> None:
    """Fused operators leave inputs and outputs out by an empty name: those names tie no layers together."""
    folder = Toy(layers=4).write(tmp_path / "x")
    model = onnx.load(str(folder / "onnx/decoder_model_merged.onnx"))
    for node in model.graph.node:
        if node.op_type == "Tanh":  # layer norms of fused graphs have outputs like this
            node.op_type = "Dropout"
            node.output.append("")
            node.input.append("")
    cut_layers(model, 4, 2)
    onnx.checker.check_model(model, full_check=True)
    assert sum(node.op_type == "Dropout" for node in model.graph.node) == 2


def test_bad_requests(tmp_path: Path) -> None:
    """Numbers of layers out of range, and graphs whose layers are entangled, are refused."""
    toy = Toy(layers=3)
    folder = toy.write(tmp_path / "x")
    for keep in (1, 4):
        with pytest.raises(InputError, match="keep"):
            slice_export(folder, keep, tmp_path / "cut")
    model = onnx.load(str(folder / "onnx/decoder_model_merged.onnx"))
    assert len(layer_starts(model.graph, 3)) == 3
    entangled = onnx.helper.make_node("Add", ["out0", "logits_before"], ["logits"])
    shape = onnx.helper.make_node("MatMul", ["out0", "head"], ["early"])
    for node in model.graph.node:
        node.output[:] = ["logits_before" if name == "logits" else name for name in node.output]
    entangled.input[0] = "early"
    model.graph.node.extend([shape, entangled])
    with pytest.raises(VerificationError):
        cut_layers(model, 3, 2)
