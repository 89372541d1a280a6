"""The accuracy benchmark's own arithmetic: formats as they are exported, gaps, intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from benchmarks.accuracy.compare import over_seeds_and_items
from benchmarks.accuracy.objectives import gaps
from benchmarks.accuracy.pools import Pool
from benchmarks.accuracy.rivals import FORMATS, rounded
from onnx import helper, numpy_helper

from tests import tiny
from topovlm.checkpoint.live import load
from topovlm.exporters.onnx.quantize import _write


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_are_rounded_as_exported(kind: str, tmp_path: Path) -> None:
    """What ONNX Runtime makes of unit vectors is the weight as the benchmark rounds it, edges included."""
    weight = np.random.default_rng(0).standard_normal((96, 40)).astype(np.float32)
    weight[:, 3], weight[5] = 0, 40 * weight[5]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", 1, ["n", 96])],
        [helper.make_tensor_value_info("y", 1, ["n", 40])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "plain.onnx")
    _write(tmp_path / "plain.onnx", tmp_path / "small.onnx", kind)
    session = onnxruntime.InferenceSession(str(tmp_path / "small.onnx"))
    (got,) = session.run(None, {"x": np.eye(96, dtype=np.float32)})
    expected = FORMATS[kind](torch.from_numpy(weight.T)).numpy().T
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert np.abs(got - weight).max() > 1e-3


def test_rounding_ends_with_the_block(tmp_path: Path) -> None:
    """A table of words that the head shares stays as it is; afterwards the model is what it was."""
    live = load(tiny.build(tmp_path / "model", "siglip-qwen2"))
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    with rounded(live, "int4"):
        words = live.model.get_input_embeddings().weight
        assert torch.equal(words, next(v for n, v in before.items() if "embed_tokens" in n))
        down = live.down_projection(1).weight
        assert not torch.equal(down, next(v for n, v in before.items() if "layers.1.mlp.down_proj" in n))
    after = live.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_gap_of_a_perfect_judge_is_nothing_and_of_a_blind_one_the_mean() -> None:
    """Three sets whose losses are told apart by every item."""
    lost = np.array([0.0, 1.0, 5.0])[:, None] * np.ones((3, 40))
    sighted = np.array([0.1, 0.2, 0.3])[:, None] * np.ones((3, 48))
    blind = np.random.default_rng(0).random((3, 48))
    found = gaps(
        Pool((), lost, {"kl": sighted, "reverse": blind, "same": 1 - sighted}),
        seed=0,
    )
    assert found["KL(dense || slim)"] == {24: 0, 48: 0}
    assert found["other tokens"] == {24: 0, 48: 0}
    assert found["KL(slim || dense)"][24] > 0.5


def test_an_interval_holds_what_seeds_share() -> None:
    """Items differ, seeds do not: drawing seeds again adds nothing, items give the width of their mean."""
    rng = np.random.default_rng(1)
    items = rng.normal(size=400)
    interval = over_seeds_and_items(np.stack([items] * 3))
    assert interval.mean == pytest.approx(items.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * items.std() / 20, rel=0.1)
