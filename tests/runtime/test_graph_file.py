"""Where a graph keeps its weights, read without the package onnx, against that package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from topovlm.errors import InputError
from topovlm.runtime.graph_file import external_files


def outside(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def model(*tensors: TensorProto, inner: TensorProto | None = None) -> onnx.ModelProto:
    """A graph with these weights; `inner`: a constant in a branch of a branch."""
    nodes = []
    if inner is not None:
        constant = helper.make_node("Constant", [], ["c"], value=inner)
        out = [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])]
        branch = helper.make_graph([constant], "b", [], out)
        deeper = helper.make_node("If", ["x"], ["c"], then_branch=branch, else_branch=branch)
        nodes = [helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([deeper], "d", [], out))]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], list(tensors)))


def test_every_location_is_found(tmp_path: Path) -> None:
    """Weights of the graph, constants in branches; none of tensors that lie in the file."""
    path = tmp_path / "m.onnx"
    held = numpy_helper.from_array(np.zeros(2000, np.float32), "held")
    path.write_bytes(
        model(
            held, outside("a", "a.bin"), outside("b", "../b.bin"), inner=outside("c", "/c")
        ).SerializeToString()
    )
    assert external_files(path) == {"a.bin", "../b.bin", "/c"}
    path.write_bytes(model(held).SerializeToString())
    assert external_files(path) == set()


@pytest.mark.parametrize(
    "content", [b"", b"\x07" * 40, b"\x3a\xff\xff\x03", b"\xff" * 30, b"\x3a\x02\x0b\x01"]
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    """In one sentence that names the file."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.onnx"):
        external_files(path)
