"""The decoder's graph: traced once per kind of layer, repeated with each layer's own weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from topovlm.exporters.onnx.pieces import remembered
from topovlm.exporters.onnx.rules import Rules, layer_kind, rules_of
from topovlm.version import __version__

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from topovlm.exporters.onnx.stack import Stack
    from topovlm.families.torch_parts import TorchParts

BATCH, SEQUENCE = "batch_size", "sequence_length"
PAST, TOTAL = "past_sequence_length", "total_sequence_length"
KEPT = "num_logits_to_keep"
_KINDS = ("key", "value")


@dataclass(frozen=True)
class DecoderPieces:
    """Traced graphs of what all layers share, of each kind of layer, and of the head; lengths are dynamic.

    `layers`: kind (`rules.layer_kind`) -> graph; `kinds`: of every layer.
    """

    rules: Rules
    prelude: ir.Model
    layers: Mapping[str, ir.Model]
    kinds: tuple[str, ...]
    head: ir.Model

    def for_batch_of_one(self) -> DecoderPieces:
        """The same pieces with the batch axis fixed to 1: ONNX Runtime's fused attention needs it."""
        layers = {kind: _fix_axis(piece, BATCH, 1) for kind, piece in self.layers.items()}
        prelude, head = (_fix_axis(piece, BATCH, 1) for piece in (self.prelude, self.head))
        return DecoderPieces(self.rules, prelude, layers, self.kinds, head)


def facts_of(parts: TorchParts) -> str:
    """Everything that shapes a traced piece: the config without depth, and the type.

    So models that differ only in weights or in the number of decoder layers (dense and slim) share their
    pieces: the second export does not trace.
    """
    config = parts.model.config.to_dict()
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name in ("_name_or_path", "dtype"):
            part.pop(name, None)
    text = config[parts.family.text_key] if parts.family.text_key else config
    for name in parts.decoder.depth_fields:
        text.pop(name, None)
    return json.dumps([config, str(parts.dtype)], sort_keys=True, default=str)


def trace_decoder(model: Any) -> DecoderPieces:
    """The decoder's pieces, each kind of layer traced once. Raises `InputError` for rules without a graph."""
    from topovlm.families.torch_parts import parts_of

    parts = parts_of(model)
    rules, facts = rules_of(parts), facts_of(parts)
    # The kinds of layers are a part of the key, their number is not.
    ends = f"{facts} {replace(rules, attention=rules.kinds)}"
    shared = remembered(ends, ("prelude", "head"), lambda: _trace_ends(parts, rules))
    kinds = tuple(
        layer_kind(layer, attention) for layer, attention in zip(parts.blocks, rules.attention, strict=True)
    )
    layers = {}
    for kind, layer in zip(kinds, parts.blocks, strict=True):
        if kind not in layers:
            make = functools.partial(_trace_layer, parts, rules, layer)
            layers[kind] = remembered(f"{facts} {kind}", ("layer",), make)["layer"]
    return DecoderPieces(rules, shared["prelude"], layers, kinds, shared["head"])


@dataclass(frozen=True)
class _Samples:
    """What pieces are traced with; every dynamic axis has a size of its own."""

    hidden: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    block_ids: torch.Tensor
    past: int = 5

    @classmethod
    def make(cls, parts: TorchParts, rules: Rules) -> _Samples:
        import torch

        batch, new = 2, 3
        positions = torch.arange(new).repeat(batch, 1)
        return cls(
            hidden=torch.zeros(batch, new, parts.decoder_shape().hidden, dtype=parts.dtype),
            attention_mask=torch.ones(batch, cls.past + new, dtype=torch.long),
            position_ids=positions if rules.rows == 1 else positions.repeat(rules.rows, 1, 1),
            block_ids=torch.ones(batch, new, dtype=torch.long),
        )


_TOKENS = {0: BATCH, 1: SEQUENCE}


def _token_axes(value: torch.Tensor) -> dict[int, str]:
    """Batch and sequence, behind whatever rows stand before them: `[3, batch, seq, ...]`."""
    lead = value.ndim - 3 if value.is_floating_point() else value.ndim - 2
    return {lead: BATCH, lead + 1: SEQUENCE}


def _trace_ends(parts: TorchParts, rules: Rules) -> dict[str, ir.Model]:
    from topovlm.exporters.onnx.modules import Head, Prelude
    from topovlm.exporters.onnx.trace import trace

    samples, prelude = _Samples.make(parts, rules), Prelude(parts, rules)
    inputs = {
        "inputs_embeds": samples.hidden,
        "attention_mask": samples.attention_mask,
        "position_ids": samples.position_ids,
    }
    axes = {
        "inputs_embeds": _TOKENS,
        "attention_mask": {0: BATCH, 1: TOTAL},
        "position_ids": _token_axes(samples.position_ids),
        "block_ids": _TOKENS,
    }
    if rules.blocks:
        inputs["block_ids"] = samples.block_ids
    ends = Head(parts)
    with parts.weights.held(ends.parameters()):
        head = trace(ends, {"hidden": samples.hidden}, {"hidden": _TOKENS}, ["logits"])
    return {"prelude": trace(prelude, inputs, axes, prelude.outputs), "head": head}


def _trace_layer(parts: TorchParts, rules: Rules, layer: torch.nn.Module) -> dict[str, ir.Model]:
    import torch

    from topovlm.exporters.onnx.experts import all_computed
    from topovlm.exporters.onnx.modules import Layer, Prelude
    from topovlm.exporters.onnx.trace import trace

    samples, shape = _Samples.make(parts, rules), parts.decoder_shape()
    batch, new = samples.hidden.shape[:2]
    dtype = samples.hidden.dtype
    with torch.no_grad():
        blocks = samples.block_ids if rules.blocks else None
        *_, cos, sin = Prelude(parts, rules)(
            samples.hidden, samples.attention_mask, samples.position_ids, blocks
        )
    cache = torch.zeros(batch, shape.kv_heads, samples.past, shape.head_dim, dtype=dtype)
    inputs = {
        "hidden": samples.hidden,
        "mask": torch.zeros(batch, 1, new, samples.past + new, dtype=dtype),
        "cos": cos.clone(),
        "sin": sin.clone(),
        "past_key": cache,
        "past_value": cache.clone(),
    }
    axes = {
        "hidden": _TOKENS,
        "mask": {0: BATCH, 2: SEQUENCE, 3: TOTAL},
        "cos": _token_axes(cos),
        "sin": _token_axes(sin),
        "past_key": {0: BATCH, 2: PAST},
        "past_value": {0: BATCH, 2: PAST},
    }
    outputs = ["hidden_out", "present_key", "present_value"]
    with parts.weights.held(layer.parameters()), all_computed(layer):
        return {"layer": trace(Layer(layer), inputs, axes, outputs)}


def decoder_graph(model: Any, pieces: DecoderPieces, kept: int = 0) -> ir.Model:
    """The whole decoder with explicit past and present.

    inputs_embeds, attention_mask, position_ids, (block_ids), (deepstack_embeds.i), past_key_values.i.*
    -> logits, present.i.key/value. Also `num_logits_to_keep`, which nobody has to give: the last so many rows
    of logits, 0 for all; `kept` where it is not given.
    """
    from topovlm.exporters.onnx.modules import Head, Layer, table_of
    from topovlm.exporters.onnx.stack import Stack
    from topovlm.exporters.onnx.trace import OPSET
    from topovlm.families.torch_parts import parts_of

    parts, rules = parts_of(model), pieces.rules
    stack = Stack("decoder", OPSET, parts.weights)
    layers = list(parts.blocks)
    given = graph_inputs(stack, pieces)
    shared = stack.append(pieces.prelude, "prelude.", given)
    hidden, presents = given["inputs_embeds"], []
    for i, (layer, kind, attention) in enumerate(zip(layers, pieces.kinds, rules.attention, strict=True)):
        table = table_of(rules, attention)
        bound = {
            "hidden": hidden,
            "mask": shared[f"mask.{attention}"],
            "cos": shared[f"cos.{table}"],
            "sin": shared[f"sin.{table}"],
            **{f"past_{part}": given[f"past_key_values.{i}.{part}"] for part in _KINDS},
        }
        weights = dict(Layer(layer).named_parameters())
        done = stack.append(pieces.layers[kind], f"layers.{i}.", bound, weights)
        hidden = done["hidden_out"]
        if i < rules.stacked:
            hidden = stack.op("Add", [hidden, given[f"deepstack_embeds.{i}"]])
        presents.append([done[f"present_{part}"] for part in _KINDS])
    hidden = last_rows(stack, hidden, kept)
    head = stack.append(pieces.head, "head.", {"hidden": hidden}, dict(Head(parts).named_parameters()))
    graph_outputs(stack, pieces, head["logits"], presents)
    return stack.model("topovlm", __version__)


def graph_inputs(stack: Stack, pieces: DecoderPieces) -> dict[str, ir.Value]:
    """The graph's inputs by name, in the order that clients see."""
    rules = pieces.rules
    like = {str(value.name): value for value in pieces.prelude.graph.inputs}
    names = ["inputs_embeds", "attention_mask", "position_ids", *(["block_ids"] if rules.blocks else [])]
    # An input that the prelude's code does not read keeps its place: clients feed all of them.
    inputs = {name: stack.input(name, like[name]) for name in names}
    for i in range(rules.stacked):
        name = f"deepstack_embeds.{i}"
        inputs[name] = stack.input(name, like["inputs_embeds"])
    for i, kind in enumerate(pieces.kinds):
        cached = {str(value.name): value for value in pieces.layers[kind].graph.inputs}
        for part in _KINDS:
            name = f"past_key_values.{i}.{part}"
            inputs[name] = stack.input(name, cached[f"past_{part}"])
    return inputs


def last_rows(stack: Stack, hidden: ir.Value, kept_by_default: int = 0) -> ir.Value:
    """hidden `[batch, seq, hidden]` -> its last `num_logits_to_keep` rows: the head reads no others."""
    import numpy as np

    kept = stack.optional_input(KEPT, np.asarray(kept_by_default, np.int64))
    start = stack.op("Reshape", [stack.op("Neg", [kept]), stack.constant([1])])
    end = np.iinfo(np.int64).max
    return stack.op("Slice", [hidden, start, stack.constant([end]), stack.constant([1])])


def graph_outputs(
    stack: Stack, pieces: DecoderPieces, logits: ir.Value, presents: Sequence[Sequence[ir.Value]]
) -> None:
    """logits, then each layer's present keys and values, with the shapes that clients rely on."""
    import onnx_ir as ir

    traced = next(value for value in pieces.head.graph.outputs if value.name == "logits")
    assert traced.shape is not None
    logits.shape = ir.Shape([traced.shape[0], KEPT, traced.shape[2]])
    logits.type = traced.type
    stack.output(logits, "logits")
    for i, (kind, present) in enumerate(zip(pieces.kinds, presents, strict=True)):
        shapes = {str(value.name): value for value in pieces.layers[kind].graph.outputs}
        for part, value in zip(_KINDS, present, strict=True):
            value.shape, value.type = shapes[f"present_{part}"].shape, shapes[f"present_{part}"].type
            stack.output(value, f"present.{i}.{part}")


def _fix_axis(piece: ir.Model, name: str, size: int) -> ir.Model:
    import onnxscript.optimizer

    from topovlm.exporters.onnx.trace import renamed_shape, values

    fixed = piece.clone()
    for value in values(fixed.graph):
        if value.shape is not None:
            value.shape = renamed_shape(value.shape, {name: size})
    onnxscript.optimizer.optimize_ir(fixed)
    return fixed
