"""The decoder in ONNX Runtime's own operators: packed projections, GroupQueryAttention, skip-norms; batch 1.

Written out layer by layer for decoders of the Llama kind (Llama, Qwen2, Qwen3, Mistral, SmolLM3): pre-norm,
gated SiLU MLP, rotary embedding over whole heads or none, heads normed or not. A general graph fuser gives
the same operators, but takes seconds per model and leaves reshapes behind, which cost time where layers are
small. Nothing here is trusted for being written by hand: the parity gate judges the graph like any other.

GroupQueryAttention takes several new tokens after a past for one sequence only: hence batch 1. It is always
causal: decoders that let a picture see itself whole have no fused form. The additive mask of the plain graph
goes in as well, so padding and sliding windows are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from topovlm.errors import InputError, explain
from topovlm.exporters.onnx.decoder import graph_inputs, graph_outputs, last_rows
from topovlm.exporters.onnx.rules import rules_of
from topovlm.exporters.onnx.stack import Stack
from topovlm.exporters.onnx.trace import OPSET
from topovlm.version import __version__

if TYPE_CHECKING:
    from topovlm.exporters.onnx.decoder import DecoderPieces

MICROSOFT = "com.microsoft"
_PARAMETERS = {
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    "self_attn.q_norm.weight",
    "self_attn.k_norm.weight",
    *(f"self_attn.{name}_proj.{kind}" for name in "qkvo" for kind in ("weight", "bias")),
    *(f"mlp.{name}_proj.{kind}" for name in ("gate", "up", "down") for kind in ("weight", "bias")),
}


def check_fusible(model: Any) -> None:
    """Refuse what this graph would get wrong or ONNX Runtime cannot do. Raises `InputError`."""
    from topovlm.families.torch_parts import parts_of

    parts = parts_of(model)
    text, rules = parts.text, rules_of(parts)
    part = f"{parts.family.text_key}." if parts.family.text_key else ""
    remedy = "Export the plain variant only"
    if not parts.decoder.fusible:
        raise InputError(explain(f"{part}model_type", text.model_type, "is not fused", remedy))
    if rules.blocks:
        rule = "is not fused: ONNX Runtime's attention sees nothing that comes later"
        raise InputError(explain("attention mask", rules.mask, rule, remedy))
    unknown = {name for block in parts.blocks for name, _ in block.named_parameters()} - _PARAMETERS
    if unknown:
        rule = "is not a parameter of a Llama-type layer"
        raise InputError(explain("decoder layer", sorted(unknown)[0], rule, remedy))
    if text.hidden_act != "silu":
        raise InputError(explain(f"{part}hidden_act", text.hidden_act, "is not fused (silu is)", remedy))
    head_dim = parts.decoder_shape().head_dim
    if head_dim % 16:
        rule = "ONNX Runtime's attention rotates heads of a multiple of 16"
        raise InputError(explain("head_dim", head_dim, rule, remedy))


def why_not_fused(model: Any) -> str:
    """Why a model has no fused form; empty where it has one."""
    try:
        check_fusible(model)
    except InputError as error:
        return f"{error.field} = {error.value!r}: {error.rule}"
    return ""


class FusedDecoder:
    """Builds one fused decoder graph; `build` is called once."""

    def __init__(self, model: Any, pieces: DecoderPieces) -> None:
        from topovlm.families.torch_parts import parts_of

        check_fusible(model)
        parts, self.pieces = parts_of(model), pieces.for_batch_of_one()
        self.layers: list[Any] = list(parts.blocks)
        self.norm, self.lm_head = parts.norm, parts.head
        shape = parts.decoder_shape()
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        self.stack = Stack("decoder", OPSET, parts.weights)
        self.stack.graph.opset_imports[MICROSOFT] = 1

    def build(self) -> ir.Model:
        """The same inputs and outputs as the plain graph, with batch 1."""
        stack, rules = self.stack, self.pieces.rules
        given = graph_inputs(stack, self.pieces)
        shared = self._shared(given, stack.append(self.pieces.prelude, "prelude.", given))
        residual = given["inputs_embeds"]
        first = self.layers[0].input_layernorm
        hidden = stack.op(
            "SimplifiedLayerNormalization",
            [residual, stack.weight("layers.0.input_layernorm", first.weight)],
            {"axis": -1, "epsilon": first.variance_epsilon, "stash_type": 1},
        )
        presents = []
        for i, layer in enumerate(self.layers):
            following = self.layers[i + 1].input_layernorm if i + 1 < len(self.layers) else self.norm
            past = {kind: given[f"past_key_values.{i}.{kind}"] for kind in ("key", "value")}
            added = given[f"deepstack_embeds.{i}"] if i < rules.stacked else None
            hidden, residual, present = self._layer(
                i, layer, following, hidden=hidden, residual=residual, past=past, shared=shared, added=added
            )
            presents.append(present)
        logits = self._linear("lm_head", last_rows(stack, hidden), [self.lm_head])
        graph_outputs(stack, self.pieces, logits, presents)
        return stack.model("topovlm", __version__)

    def _shared(self, inputs: Mapping[str, ir.Value], prelude: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """What every attention reads: mask, lengths, and rotary tables with a row per new token.

        The tables must have as many rows as the cache will be long: rows of zeros follow, read by nobody.
        """
        stack, constant = self.stack, self.stack.constant
        new = stack.op("Shape", [inputs["inputs_embeds"]], {"start": 1, "end": 2})
        total = stack.op("Shape", [inputs["attention_mask"]], {"start": 1, "end": 2})
        total32 = stack.op("Cast", [total], {"to": ir.DataType.INT32})
        rows = stack.op("Concat", [stack.op("Sub", [total, new]), constant([self._angles()])], {"axis": 0})
        zeros = stack.op("Expand", [constant(0.0, self._dtype()), rows])
        tables = {}
        for name in ("cos", "sin"):
            # The two halves of a row are equal; ONNX Runtime wants one.
            half = stack.op(
                "Slice", [prelude[f"{name}.all"], constant([0]), constant([self._angles()]), constant([2])]
            )
            table = stack.op("Reshape", [half, constant([-1, self._angles()])])
            tables[name] = stack.op("Concat", [table, zeros], {"axis": 0})
        rank0 = stack.op("Squeeze", [new])
        positions = stack.op("Range", [constant(0), rank0, constant(1)])
        return {
            **tables,
            **{f"mask.{kind}": prelude[f"mask.{kind}"] for kind in self.pieces.rules.kinds},
            "positions": stack.op("Unsqueeze", [positions, constant([0])]),
            "last": stack.op("Sub", [total32, constant([1], np.dtype(np.int32))]),
            "total": stack.op("Squeeze", [total32]),
        }

    def _layer(
        self,
        index: int,
        layer: Any,
        following: Any,
        *,
        hidden: ir.Value,
        residual: ir.Value,
        past: Mapping[str, ir.Value],
        shared: Mapping[str, ir.Value],
        added: ir.Value | None,
    ) -> tuple[ir.Value, ir.Value, tuple[ir.Value, ir.Value]]:
        """Normed hidden and residual of a layer -> those of the next (`following`: its norm); presents.

        `added`: what joins the residual behind this layer.
        """
        name, attention, mlp = f"layers.{index}", layer.self_attn, layer.mlp
        # A decoder with layers that do not rotate says so of each.
        rotates = bool(getattr(attention, "use_rope", True))
        tables = [shared[kind] for kind in ("cos", "sin", "positions")] if rotates else [None] * 3
        mixed, key, value = self.stack.ops(
            "GroupQueryAttention",
            [
                *self._queries_keys_values(name, hidden, attention),
                past["key"],
                past["value"],
                shared["last"],
                shared["total"],
                *tables,
                shared[f"mask.{self.pieces.rules.attention[index]}"],
            ],
            {
                "num_heads": self.heads,
                "kv_num_heads": self.kv_heads,
                "scale": float(attention.scaling),
                "do_rotary": int(rotates),
                "rotary_interleaved": 0,
            },
            domain=MICROSOFT,
            outputs=3,
        )
        mixed = self._linear(f"{name}.o", mixed, [attention.o_proj])
        norm = layer.post_attention_layernorm
        hidden, residual = self._skip_norm(f"{name}.post_attention_layernorm", mixed, residual, norm)
        both = self._linear(f"{name}.gate_up", hidden, [mlp.gate_proj, mlp.up_proj])
        width = mlp.gate_proj.out_features
        gate, up = self.stack.ops(
            "Split", [both, self.stack.constant([width, width])], {"axis": -1}, outputs=2
        )
        active = self.stack.op("Mul", [gate, self.stack.op("Sigmoid", [gate])])
        out = self._linear(f"{name}.down", self.stack.op("Mul", [active, up]), [mlp.down_proj])
        if added is not None:
            residual = self.stack.op("Add", [residual, added])
        hidden, residual = self._skip_norm(f"{name}.next_layernorm", out, residual, following)
        return hidden, residual, (key, value)

    def _queries_keys_values(self, name: str, hidden: ir.Value, attention: Any) -> list[ir.Value | None]:
        """What the attention reads first: one packed projection, or three where heads are normed."""
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        if not hasattr(attention, "q_norm"):
            return [self._linear(f"{name}.qkv", hidden, projections), None, None]
        query, key, value = (
            self._linear(f"{name}.{part}", hidden, [projection])
            for part, projection in zip("qkv", projections, strict=True)
        )
        query = self._head_norm(f"{name}.q_norm", query, attention.q_norm, self.heads)
        key = self._head_norm(f"{name}.k_norm", key, attention.k_norm, self.kv_heads)
        return [query, key, value]

    def _head_norm(self, name: str, x: ir.Value, norm: Any, heads: int) -> ir.Value:
        """Each head of `x` `[1, seq, heads * head_dim]`, normed."""
        stack, size = self.stack, self.head_dim
        split = stack.op("Reshape", [x, stack.constant([0, 0, heads, size])])
        normed = stack.op(
            "SimplifiedLayerNormalization",
            [split, stack.weight(name, norm.weight)],
            {"axis": -1, "epsilon": norm.variance_epsilon, "stash_type": 1},
        )
        return stack.op("Reshape", [normed, stack.constant([0, 0, heads * size])])

    def _linear(self, name: str, x: ir.Value, modules: list[Any]) -> ir.Value:
        """One MatMul (and one Add, if any has a bias) for linear layers that read the same input."""
        weights = [module.weight for module in modules]
        weight = self.stack.weight(f"{name}.weight_t", *weights, permutation=(1, 0))
        y = self.stack.op("MatMul", [x, weight])
        if all(module.bias is None for module in modules):
            return y
        biases = [
            module.weight.new_zeros(module.out_features) if module.bias is None else module.bias
            for module in modules
        ]
        return self.stack.op("Add", [y, self.stack.weight(f"{name}.bias", *biases)])

    def _skip_norm(self, name: str, x: ir.Value, residual: ir.Value, norm: Any) -> tuple[ir.Value, ir.Value]:
        """norm(x + residual) and x + residual."""
        outputs = self.stack.ops(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self.stack.weight(name, norm.weight)],
            {"epsilon": norm.variance_epsilon},
            domain=MICROSOFT,
            outputs=4,  # the norm, two for training, the sum
        )
        return outputs[0], outputs[3]

    def _angles(self) -> int:
        shape = next(v for v in self.pieces.prelude.graph.outputs if v.name == "cos.all").shape
        size = None if shape is None else shape[2]
        assert isinstance(size, int)
        return size // 2

    def _dtype(self) -> np.dtype[Any]:
        kind = next(v for v in self.pieces.prelude.graph.outputs if v.name == "cos.all").dtype
        assert kind is not None
        return kind.numpy()


def fused_decoder_graph(model: Any, pieces: DecoderPieces) -> ir.Model:
    """A decoder for ONNX Runtime with the plain graph's interface and batch 1. Raises `InputError`."""
    return FusedDecoder(model, pieces).build()
