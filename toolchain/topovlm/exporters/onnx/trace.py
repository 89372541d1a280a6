"""One torch module -> one small ONNX graph (onnx_ir), weights as graph inputs, axes with names.

Weights become inputs *before* the optimiser runs. It would otherwise fold them into constants, and merge
equal ones (two norms full of ones are one tensor to it): then the graph of one decoder layer could not
serve as the pattern of all of them. `stack` puts the weights back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from topovlm.errors import InputError, VerificationError, explain
from topovlm.exporters.onnx.quiet import quiet_exporter

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

OPSET = 18  # torch's exporter lowers to it directly; every runtime of interest reads it
_SYMBOL = re.compile(r"\bs\d+\b|\bu\d+\b")


def trace(
    module: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
) -> ir.Model:
    """Trace `module(*inputs.values())`; `axes` names the dynamic axes of each input.

    What the module stores must be parameters: a stored buffer would stay in the graph as it is here.

    Sample tensors need sizes >= 2, different for axes with different names: a size of 1, or two equal ones,
    would be baked in. Raises `VerificationError` when the tracer still fixed a dynamic axis.
    """
    import onnxscript.optimizer
    import torch

    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    if stored := set(module.state_dict()) - parameters:
        rule = "is a stored buffer; only parameters are exported"
        raise InputError(explain("checkpoint", sorted(stored)[0], rule))
    auto = torch.export.Dim.AUTO
    shapes = tuple(dict.fromkeys(axes.get(name, {}), auto) for name in inputs)
    with torch.no_grad(), quiet_exporter():
        program = torch.export.export(
            module.eval(), tuple(inputs.values()), dynamic_shapes=shapes, strict=False
        )
        exported = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False, opset_version=OPSET)
        assert exported is not None  # None only without dynamo
        model = exported.model
        weights_to_inputs(model, parameters)
        name_axes(model, list(inputs), axes)
        for value, name in zip(model.graph.outputs, outputs, strict=True):
            value.name = name
        onnxscript.optimizer.optimize_ir(model)
    refuse_fixed_axes(model, axes)
    return model


def weights_to_inputs(model: ir.Model, names: set[str]) -> None:
    """Turn the initializers called `names` into graph inputs (appended after the real ones)."""
    graph = model.graph
    for name in sorted(names & set(graph.initializers)):
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)


def name_axes(model: ir.Model, inputs: Sequence[str], axes: Mapping[str, Mapping[int, str]]) -> None:
    """Rename the tracer's symbols (`s13`, `s13 + s34`) to the names in `axes`, in all values of the graph."""
    names: dict[str, str] = {}
    for value, name in zip(model.graph.inputs, inputs, strict=False):
        value.name = name
        for axis, axis_name in axes.get(name, {}).items():
            names[_symbol(value, axis, axis_name, by="tracer")] = axis_name
    for value in values(model.graph):
        if value.shape is not None:
            value.shape = renamed_shape(value.shape, names)


def refuse_fixed_axes(model: ir.Model, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Raise `VerificationError` for an input whose dynamic axis has become a number on the way."""
    for value in model.graph.inputs:
        for axis, name in axes.get(str(value.name), {}).items():
            _symbol(value, axis, name, by="optimiser")


def _symbol(value: ir.Value, axis: int, name: str, *, by: str) -> str:
    """What the graph calls that axis of an input. Raises `VerificationError` for one that is a number."""
    dim = value.shape[axis] if value.shape is not None else None
    if dim is None or isinstance(dim, int):
        rule = f"was fixed to {dim} by the {by}; it must stay dynamic"
        raise VerificationError(explain(f"{value.name}[{axis}]", name, rule))
    return str(dim.value)


def renamed_shape(shape: ir.Shape, names: Mapping[str, str | int]) -> ir.Shape:
    """`shape` with whole expressions, else the symbols within them, replaced by `names`."""
    import onnx_ir as ir

    def rename(dim: Any) -> Any:
        if isinstance(dim, int) or dim.value is None:
            return dim
        text = str(dim.value)
        return names[text] if text in names else _SYMBOL.sub(lambda m: str(names.get(m[0], m[0])), text)

    return ir.Shape([rename(dim) for dim in shape])


def values(graph: ir.Graph) -> list[ir.Value]:
    """Inputs and every node's outputs."""
    return [*graph.inputs, *(output for node in graph for output in node.outputs)]
