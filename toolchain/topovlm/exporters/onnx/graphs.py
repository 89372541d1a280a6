"""The three ONNX graphs of a vision-language model: vision_encoder, embed_tokens, decoder_model_merged.

Names are those that transformers.js and the ONNX community use; `batch_size` is the literal symbol of the
past's axis 0. Graphs are `onnx_ir` models; their weights are views of the torch model until they are saved.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topovlm.errors import InputError, explain
from topovlm.exporters.onnx.pieces import remembered
from topovlm.families.catalogue import family_of
from topovlm.families.configs import VISION_KEY, ModelConfig
from topovlm.families.family import Family
from topovlm.version import __version__

if TYPE_CHECKING:
    import onnx_ir as ir

    from topovlm.families.torch_parts import TorchParts

BATCH, SEQUENCE = "batch_size", "sequence_length"
PAST, TOTAL = "past_sequence_length", "total_sequence_length"
_STATIC_ROPE = ("default", "linear", "llama3", "yarn")


def check_family(config: Any) -> None:
    """Refuse, in one sentence, a checkpoint whose graphs we cannot vouch for. Raises `InputError`.

    `config`: as transformers reads it, its defaults filled in.
    """
    held: ModelConfig = config.to_dict()
    family = family_of(held, "export")
    assert family.graphs is not None  # who exports says what
    _check_rules(family)
    kinds = {VISION_KEY: family.graphs.towers, family.text_key: family.graphs.decoders}
    for part, known in kinds.items():
        kind = held[part]["model_type"]
        if kind not in known:
            rule = f"is not one that this exporter knows ({', '.join(known)})"
            raise InputError(explain(f"{part}.model_type", kind, rule))
    text, name = held[family.text_key], family.text_key
    layers = set(text.get("layer_types") or ["full_attention"])
    if layers != {"full_attention"}:
        raise InputError(explain(f"{name}.layer_types", sorted(layers), "only full attention is exported"))
    if "layer_types" not in text and text.get("sliding_window") is not None:
        raise InputError(explain(f"{name}.sliding_window", text["sliding_window"], "is not exported"))
    rope = (text.get("rope_parameters") or {}).get("rope_type", "default")
    if rope not in _STATIC_ROPE:
        rule = f"recomputes its frequencies as the prompt grows; exported are {', '.join(_STATIC_ROPE)}"
        raise InputError(explain(f"{name}.rope_parameters.rope_type", rope, rule))


def _check_rules(family: Family) -> None:
    """The decoder's graph counts positions one by one and lets a token see what came before it."""
    for rule, ours in (("positions", "sequential"), ("mask", "causal")):
        stated = getattr(family, rule)
        if stated != ours:
            raise InputError(explain(f"{family.model_type}: {rule}", stated, f"is not exported ({ours} is)"))


def _facts(parts: TorchParts) -> str:
    """Everything that shapes a traced piece: the config without depth, and the type.

    So models that differ only in weights or in the number of decoder layers (dense and slim) share their
    pieces: the second export does not trace.
    """
    config = parts.model.config.to_dict()
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name in ("_name_or_path", "dtype"):
            part.pop(name, None)
    for name in parts.decoder.depth_fields:
        config[parts.family.text_key].pop(name, None)
    return json.dumps([config, str(parts.model.dtype)], sort_keys=True, default=str)


def vision_graph(model: Any) -> ir.Model:
    """pixel_values `[num_images, 3, H, W]` -> image_features `[num_images, tokens, hidden]`."""
    from topovlm.exporters.onnx.stack import Stack
    from topovlm.exporters.onnx.trace import OPSET, trace
    from topovlm.families.torch_parts import parts_of
    from topovlm.towers.vision import vision_of

    parts = parts_of(model)
    module: Any = vision_of(parts)

    def make() -> dict[str, ir.Model]:
        return {"vision": trace(module, module.samples(), module.axes, module.outputs)}

    piece = remembered(_facts(parts), ("vision",), make, type(module))["vision"]
    stack = Stack("image_features", OPSET)
    bound = {"pixel_values": stack.input("pixel_values", piece.graph.inputs[0])}
    results = stack.append(piece, "", bound, dict(module.named_parameters()))
    stack.output(results["image_features"], "image_features")
    return stack.model("topovlm", __version__)


def embed_graph(model: Any) -> ir.Model:
    """input_ids `[batch_size, sequence_length]` -> inputs_embeds `[batch_size, sequence_length, hidden]`.

    One look-up, written down rather than traced. Raises `InputError` for an embedding that does more.
    """
    import onnx_ir as ir
    import torch

    from topovlm.exporters.onnx.stack import Stack
    from topovlm.exporters.onnx.trace import OPSET
    from topovlm.families.torch_parts import parts_of

    table = parts_of(model).embedding
    if type(table) is not torch.nn.Embedding:
        raise InputError(
            explain("input embedding", type(table).__name__, "is not a plain table; not exported")
        )
    stack = Stack("inputs_embeds", OPSET)
    like = ir.Value(shape=ir.Shape([BATCH, SEQUENCE]), type=ir.TensorType(ir.DataType.INT64))
    weight = stack.weight("embed.weight", table.weight)
    node = ir.node("Gather", [weight, stack.input("input_ids", like)], {"axis": 0})
    embeds = node.outputs[0]
    embeds.shape, embeds.type = ir.Shape([BATCH, SEQUENCE, table.embedding_dim]), weight.type
    stack.graph.append(node)
    stack.output(embeds, "inputs_embeds")
    return stack.model("topovlm", __version__)


@dataclass(frozen=True)
class DecoderPieces:
    """Traced graphs of what all layers share, of one layer, and of the head; batch and lengths dynamic."""

    prelude: ir.Model
    layer: ir.Model
    head: ir.Model

    def for_batch_of_one(self) -> DecoderPieces:
        """The same pieces with the batch axis fixed to 1: ONNX Runtime's fused attention needs it."""
        return DecoderPieces(*(_fix_axis(piece, BATCH, 1) for piece in (self.prelude, self.layer, self.head)))


def trace_decoder(model: Any) -> DecoderPieces:
    """The decoder's pieces, traced once. Layers of different parameter shapes: `InputError`."""
    from topovlm.families.torch_parts import parts_of

    parts = parts_of(model)
    _check_same_layers(parts.blocks)
    names = ("prelude", "layer", "head")
    return DecoderPieces(**remembered(_facts(parts), names, lambda: _trace_pieces(parts)))


def _trace_pieces(parts: TorchParts) -> dict[str, ir.Model]:
    import torch

    from topovlm.exporters.onnx.modules import Head, Layer, Prelude
    from topovlm.exporters.onnx.trace import trace

    shape, dtype = parts.decoder_shape(), parts.model.dtype
    batch, new, past = 2, 3, 5
    hidden = torch.zeros(batch, new, shape.hidden, dtype=dtype)
    mask = torch.zeros(batch, 1, new, past + new, dtype=dtype)
    angles = torch.zeros(batch, new, shape.head_dim, dtype=dtype)
    cache = torch.zeros(batch, shape.kv_heads, past, shape.head_dim, dtype=dtype)
    token_axes = {0: BATCH, 1: SEQUENCE}
    prelude = trace(
        Prelude(parts),
        {
            "inputs_embeds": hidden,
            "attention_mask": torch.ones(batch, past + new, dtype=torch.long),
            "position_ids": torch.arange(new).repeat(batch, 1),
        },
        {"inputs_embeds": token_axes, "attention_mask": {0: BATCH, 1: TOTAL}, "position_ids": token_axes},
        ["mask", "cos", "sin"],
    )
    layer = trace(
        Layer(parts.blocks[0]),
        {
            "hidden": hidden,
            "mask": mask,
            "cos": angles,
            "sin": angles.clone(),
            "past_key": cache,
            "past_value": cache.clone(),
        },
        {
            "hidden": token_axes,
            "mask": {0: BATCH, 2: SEQUENCE, 3: TOTAL},
            "cos": token_axes,
            "sin": token_axes,
            "past_key": {0: BATCH, 2: PAST},
            "past_value": {0: BATCH, 2: PAST},
        },
        ["hidden_out", "present_key", "present_value"],
    )
    head = trace(Head(parts), {"hidden": hidden}, {"hidden": token_axes}, ["logits"])
    return {"prelude": prelude, "layer": layer, "head": head}


def decoder_graph(model: Any, pieces: DecoderPieces) -> ir.Model:
    """The whole decoder with explicit past and present:

    inputs_embeds, attention_mask, position_ids, past_key_values.i.key/value -> logits, present.i.key/value.
    """
    from topovlm.exporters.onnx.modules import Head, Layer
    from topovlm.exporters.onnx.stack import Stack
    from topovlm.exporters.onnx.trace import OPSET
    from topovlm.families.torch_parts import parts_of

    parts, stack = parts_of(model), Stack("decoder", OPSET)
    names = ("inputs_embeds", "attention_mask", "position_ids")
    like = {str(value.name): value for value in pieces.prelude.graph.inputs}
    # An input that the prelude's code does not read keeps its place: clients feed all three.
    inputs = {name: stack.input(name, like[name]) for name in names}
    layer_like = {str(value.name): value for value in pieces.layer.graph.inputs}
    layers = list(parts.blocks)
    past = [
        {
            kind: stack.input(f"past_key_values.{i}.{kind}", layer_like[f"past_{kind}"])
            for kind in ("key", "value")
        }
        for i in range(len(layers))
    ]
    shared = stack.append(pieces.prelude, "prelude.", inputs)
    hidden, presents = inputs["inputs_embeds"], []
    for i, layer in enumerate(layers):
        bound = {**shared, "hidden": hidden, "past_key": past[i]["key"], "past_value": past[i]["value"]}
        done = stack.append(pieces.layer, f"layers.{i}.", bound, dict(Layer(layer).named_parameters()))
        hidden = done["hidden_out"]
        presents.append(done)
    head = stack.append(pieces.head, "head.", {"hidden": hidden}, dict(Head(parts).named_parameters()))
    stack.output(head["logits"], "logits")
    for i, done in enumerate(presents):
        for kind in ("key", "value"):
            stack.output(done[f"present_{kind}"], f"present.{i}.{kind}")
    return stack.model("topovlm", __version__)


def _check_same_layers(layers: Any) -> None:
    shapes = [{name: tuple(p.shape) for name, p in layer.named_parameters()} for layer in layers]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            odd = sorted(set(shape.items()) ^ set(shapes[0].items()))[0][0]
            raise InputError(
                explain(f"decoder layer {i}", odd, "differs in shape from layer 0; not exported")
            )


def _fix_axis(piece: ir.Model, name: str, size: int) -> ir.Model:
    import onnxscript.optimizer

    from topovlm.exporters.onnx.trace import renamed_shape, values

    fixed = piece.clone()
    for value in values(fixed.graph):
        if value.shape is not None:
            value.shape = renamed_shape(value.shape, {name: size})
    onnxscript.optimizer.optimize_ir(fixed)
    return fixed
