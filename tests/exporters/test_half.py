"""fp16 graphs with an fp32 interface: same numbers, other types at the edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.onnx.half import float_interface

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


@pytest.fixture(scope="module")
def folder(tiny_siglip_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp16 export."""
    out = tmp_path_factory.mktemp("half") / "export"
    export_onnx(tiny_siglip_qwen2, out, dtype="fp16")
    return out


def open_graph(model: ir.Model, path: Path) -> ort.InferenceSession:
    ir.save(model, path)
    if "fused" not in path.name:  # its operators are ONNX Runtime's own
        onnx.checker.check_model(onnx.load(path), full_check=True)
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def with_half_interface(model: ir.Model) -> ir.Model:
    """The graph as it is traced: in fp16 from edge to edge, whatever the export has made of it."""
    half = ir.TensorType(ir.DataType.FLOAT16)
    for value in list(model.graph.inputs):
        cast = next((node for node in model.graph if node.name == f"{value.name}_to_fp16"), None)
        if cast is not None:
            value.type = half
            cast.outputs[0].replace_all_uses_with(value)
            model.graph.remove(cast)
    for place, value in enumerate(list(model.graph.outputs)):
        cast = value.producer()
        if cast is not None and cast.name == f"{value.name}_to_fp32":
            inner = cast.inputs[0]
            assert inner is not None
            name, value.name = value.name, "gone"
            model.graph.outputs[place] = inner
            model.graph.remove(cast)
            inner.name = name
    return model


PARTS = ("vision_encoder", "embed_tokens", "decoder_model_merged", "decoder_model_merged_fused")


@pytest.mark.parametrize("part", PARTS)
def test_only_the_edge_changes(part: str, folder: Path, tmp_path: Path) -> None:
    """fp32 in and out, the cache and the weights fp16, names and shapes as before; to fp16 rounding.

    On a CPU ONNX Runtime computes in fp32 between casts and drops the pairs that meet: that rounds less.
    """
    file = folder / "onnx" / f"{part}_fp16.onnx"
    plain = open_graph(with_half_interface(ir.load(file)), tmp_path / f"plain-{part}.onnx")
    changed = float_interface(with_half_interface(ir.load(file)))
    edged = open_graph(changed, tmp_path / f"edged-{part}.onnx")
    assert {t.dtype for t in changed.graph.initializers.values()} <= {
        t.dtype for t in ir.load(file).graph.initializers.values()
    }
    for before, after in zip(plain.get_inputs(), edged.get_inputs(), strict=True):
        assert (after.name, after.shape) == (before.name, before.shape)
    for before, after in zip(plain.get_outputs(), edged.get_outputs(), strict=True):
        assert (after.name, after.shape) == (before.name, before.shape)
    for value in [*edged.get_inputs(), *edged.get_outputs()]:
        assert (value.type == "tensor(float16)") == value.name.startswith(("past_key_values.", "present."))
    rng = np.random.default_rng(3)
    sizes = {"batch_size": 1, "sequence_length": 5, "past_sequence_length": 3, "total_sequence_length": 8}
    feeds = {}
    for value in plain.get_inputs():
        shape = [size if isinstance(size, int) else sizes.get(size, 2) for size in value.shape]
        feeds[value.name] = (
            np.ones(shape, np.int64)
            if value.type == "tensor(int64)"
            else rng.normal(size=shape).astype(TYPES[value.type])
        )
    wanted = plain.run(None, feeds)
    types = {value.name: TYPES[value.type] for value in edged.get_inputs()}
    got = edged.run(None, {name: array.astype(types[name]) for name, array in feeds.items()})
    for one, other in zip(wanted, got, strict=True):
        np.testing.assert_allclose(other.astype(np.float32), one, rtol=2**-9, atol=2**-9)


def test_an_fp32_interface_stays(folder: Path) -> None:
    """A second time changes nothing."""
    model = float_interface(ir.load(folder / "onnx" / "decoder_model_merged_fp16.onnx"))
    nodes = len(model.graph)
    assert len(float_interface(model).graph) == nodes


def test_a_value_that_goes_straight_through() -> None:
    """A graph that gives out its own input, and one tensor given out and used within, stay right."""
    half = ir.TensorType(ir.DataType.FLOAT16)
    given = ir.Value(name="x", shape=ir.Shape([2]), type=half)
    node = ir.node("Add", [given, given], name="add")
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "y", half, ir.Shape([2])
    more = ir.node("Mul", [node.outputs[0], given], name="mul")
    more.outputs[0].name, more.outputs[0].type, more.outputs[0].shape = "z", half, ir.Shape([2])
    graph = ir.Graph(
        [given],
        [given, node.outputs[0], more.outputs[0]],
        nodes=[node, more],
        opset_imports={"": 18},
        name="g",
    )
    model = float_interface(ir.Model(graph, ir_version=10))
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.type for value in session.get_outputs()] == ["tensor(float)"] * 3
    x = np.array([1.5, -2], np.float32)
    first, *others = session.run(None, {"x": x})
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(others, [x + x, (x + x) * x])
