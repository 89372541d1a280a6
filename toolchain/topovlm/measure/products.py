"""Matrix products: those of a decoder graph, and graphs of nothing else to time them with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.errors import VerificationError, explain

if TYPE_CHECKING:
    from onnx import ModelProto

Shape = tuple[int, int]  # of a weight: (width in, width out)


def decoder_products(graph_file: Path) -> tuple[Counter[Shape], int, np.dtype[Any]]:
    """Products with constant weights in a graph: shapes and how often, quantised ones, the weights' type."""
    import onnx

    graph = onnx.load(str(graph_file), load_external_data=False).graph
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    shapes: Counter[Shape] = Counter()
    quantised, types = 0, Counter({np.dtype(np.float32): 0})
    for node in graph.node:
        if node.op_type in ("MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger"):
            quantised += 1
        elif node.op_type in ("MatMul", "Gemm", "FusedMatMul") and node.input[1] in weights:
            tensor = weights[node.input[1]]
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            inner, outer = reversed(tensor.dims) if turned else tensor.dims
            shapes[int(inner), int(outer)] += 1
            types[np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))] += 1
    if not shapes and not quantised:
        raise VerificationError(explain("decoder graph", str(graph_file), "has no products with weights"))
    return shapes, quantised, types.most_common(1)[0][0]


def product_graph(rows: int, inner: int, outer: int, dtype: np.dtype[Any], copies: int) -> ModelProto:
    """`copies` products of one `[rows, inner]` input with constant weights `[inner, outer]` of their own."""
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((inner, outer), np.float32).astype(dtype), f"w{i}")
        for i in range(copies)
    ]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(copies)]
    given = helper.make_tensor_value_info("x", kind, [rows, inner])
    out = [helper.make_tensor_value_info(f"y{i}", kind, [rows, outer]) for i in range(copies)]
    graph = helper.make_graph(nodes, "products", [given], out, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def free_product_graph(rows: int, inner: int, outer: int, dtype: np.dtype[Any]) -> ModelProto:
    """One product of two inputs, `x` and `w`: nothing is arranged beforehand, weights are read as given."""
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    sizes = {"x": [rows, inner], "w": [inner, outer], "y0": [rows, outer]}
    x, w, y = (helper.make_tensor_value_info(name, kind, size) for name, size in sizes.items())
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y0"])], "product", [x, w], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
