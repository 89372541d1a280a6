"""Whole decoder graphs from the traced graph of one layer, repeated with each layer's own weights.

Tracing all layers costs time in proportion to depth (16 small layers: half a minute per graph) though
every layer is the same code. Repeating one layer's graph costs milliseconds and gives the same nodes; the
parity gate then checks the result against torch as a whole, so nothing is taken on trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    import torch
    from torch import nn

    from topovlm.families.mapped import Weights


class Stack:
    """A graph under construction: inputs, then pieces one after the other, then outputs.

    `weights`: where the model's parameters are while nothing is done with them.
    """

    def __init__(self, name: str, opset: int, weights: Weights) -> None:
        self.weights = weights
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name=name)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def input(self, name: str, like: ir.Value) -> ir.Value:
        """A graph input with the type and shape of `like`."""
        value = ir.Value(name=name, shape=like.shape, type=like.type)
        self.graph.inputs.append(value)
        return value

    def optional_input(self, name: str, default: np.ndarray) -> ir.Value:
        """A graph input that has a value where nobody gives one."""
        held = ir.tensor(default, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(default.shape), type=ir.TensorType(held.dtype), const_value=held
        )
        self.graph.inputs.append(value)
        self.graph.register_initializer(value)
        return value

    def output(self, value: ir.Value, name: str) -> None:
        """Make `value` a graph output called `name`."""
        value.name = name
        self.graph.outputs.append(value)

    def weight(self, name: str, *tensors: nn.Parameter, permutation: Sequence[int] = ()) -> ir.Value:
        """An initializer: `tensors` joined along axis 0, then permuted.

        It is computed when the graph is saved, tensor by tensor: no second copy of the model in memory.
        """
        rows, *others = tensors[0].shape
        shape = [sum(tensor.shape[0] for tensor in tensors) if len(tensors) > 1 else rows, *others]
        shape = [shape[axis] for axis in permutation] or shape

        def compute() -> ir.TensorProtocol:
            import torch

            with self.weights.held(tensors):
                joined = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
                placed = joined.permute(*permutation) if permutation else joined
                # What is held goes again: what is written from must stay.
                return ir.tensor(placed.detach().contiguous(), name=name)

        kind = _kind_of(self.weights.dtype or tensors[0].dtype)
        held = ir.LazyTensor(compute, dtype=kind, shape=ir.Shape(shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(kind), const_value=held)
        self.graph.register_initializer(value)
        return value

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Append a node with one output; returns the output."""
        return self.ops(op_type, inputs, attributes, domain=domain)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: int = 1,
    ) -> Sequence[ir.Value]:
        """Append a node with that number of outputs; returns them."""
        name = f"{op_type}_{len(self.graph)}"
        values = [ir.Value(name=f"{name}.{i}") for i in range(outputs)]
        node = ir.node(op_type, inputs, attributes, domain=domain, outputs=values, name=name)
        self.graph.append(node)
        return values

    def constant(self, values: Any, dtype: np.dtype[Any] | None = None) -> ir.Value:
        """A small constant (int64 unless `dtype` says otherwise), shared by all who ask for the same."""
        return self._share(ir.tensor(np.asarray(values, dtype or np.int64)))

    def append(
        self,
        piece: ir.Model,
        prefix: str,
        inputs: Mapping[str, ir.Value],
        weights: Mapping[str, nn.Parameter] | None = None,
    ) -> dict[str, ir.Value]:
        """Copy a traced piece behind what is there; every input of the piece is bound or is a weight.

        A weight that the piece only transposes is stored transposed: constant folding, done by hand because
        the pattern's weights are inputs. Returns the piece's outputs by name.
        """
        weights = weights or {}
        bound: dict[ir.Value, ir.Value] = {}
        lazy: dict[ir.Value, str] = {}
        for value in piece.graph.inputs:
            assert value.name is not None
            if value.name in inputs:
                bound[value] = inputs[value.name]
            else:
                lazy[value] = value.name
        for value in piece.graph.initializers.values():
            bound[value] = self._constant(value)
        for node in piece.graph:
            source = node.inputs[0] if node.op_type == "Transpose" else None
            if source is not None and source in lazy:
                permutation = list(node.attributes["perm"].as_ints())
                bound[node.outputs[0]] = self.weight(
                    f"{prefix}{lazy[source]}_t", weights[lazy[source]], permutation=permutation
                )
                continue
            for used in node.inputs:
                if used is not None and used in lazy and used not in bound:
                    bound[used] = self.weight(f"{prefix}{lazy[used]}", weights[lazy[used]])
            self._copy(node, prefix, bound)
        return {str(value.name): bound[value] for value in piece.graph.outputs}

    def _copy(self, node: ir.Node, prefix: str, bound: dict[ir.Value, ir.Value]) -> None:
        outputs = [ir.Value(name=f"{prefix}{v.name}", shape=v.shape, type=v.type) for v in node.outputs]
        copied = ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else bound[value] for value in node.inputs],
            list(node.attributes.values()),
            outputs=outputs,
            name=f"{prefix}{node.name}",
        )
        bound.update(zip(node.outputs, outputs, strict=True))
        self.graph.append(copied)

    def _constant(self, value: ir.Value) -> ir.Value:
        """A small constant of a pattern, shared by all its copies."""
        assert value.const_value is not None
        return self._share(value.const_value)

    def _share(self, held: ir.TensorProtocol) -> ir.Value:
        shape = tuple(held.shape.numpy())
        key = (str(held.dtype), shape, held.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            copy = ir.Value(
                name=name, shape=ir.Shape(shape), type=ir.TensorType(held.dtype), const_value=held
            )
            self.graph.register_initializer(copy)
            self._constants[key] = copy
        return self._constants[key]

    def model(self, producer: str, version: str) -> ir.Model:
        """The finished model."""
        return ir.Model(self.graph, ir_version=10, producer_name=producer, producer_version=version)


def _kind_of(dtype: torch.dtype) -> ir.DataType:
    import torch

    return ir.tensor(torch.zeros(0, dtype=dtype)).dtype
