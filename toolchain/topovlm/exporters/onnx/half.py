"""fp16 graphs that clients feed as they feed fp32 ones.

Weights, arithmetic and the key/value cache stay fp16. What clients make themselves or read (pixels,
embeddings, picture features, logits) is fp32 at the graph's edge, with a cast inside: transformers.js gives
fp32 pixels and embeddings whatever the graph's precision, and makes the empty cache in the type that the
graph states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

_CACHE = ("past_key_values.", "present.")


def float_interface(model: ir.Model) -> ir.Model:
    """The same model (changed in place) with fp32 inputs and outputs; the cache keeps its type.

    A model whose interface is fp32 already stays as it is.
    """
    import onnx_ir as ir

    half, single = ir.TensorType(ir.DataType.FLOAT16), ir.TensorType(ir.DataType.FLOAT)
    graph = model.graph
    for place, inner in enumerate(list(graph.inputs)):
        if inner.type != half or str(inner.name).startswith(_CACHE):
            continue
        name = str(inner.name)
        outer = ir.Value(name=name, shape=inner.shape, type=single)
        cast = ir.node("Cast", [outer], {"to": ir.DataType.FLOAT16}, name=f"{name}_to_fp16")
        made = cast.outputs[0]
        made.name, made.shape, made.type = f"{name}_fp16", inner.shape, half
        inner.replace_all_uses_with(made, replace_graph_outputs=True)
        graph.inputs[place] = outer
        if len(graph):
            graph.insert_before(graph[0], cast)
        else:
            graph.append(cast)
    for place, inner in enumerate(list(graph.outputs)):
        if inner.type != half or str(inner.name).startswith(_CACHE):
            continue
        name = str(inner.name)
        inner.name = f"{name}_fp16"
        cast = ir.node("Cast", [inner], {"to": ir.DataType.FLOAT}, name=f"{name}_to_fp32")
        outer = cast.outputs[0]
        outer.name, outer.shape, outer.type = name, inner.shape, single
        graph.append(cast)
        graph.outputs[place] = outer
    return model
