"""Which models are exported, and the graphs of pictures and words; the third, the decoder's, is `decoder`.

Names are those that transformers.js and the ONNX community use; `batch_size` is the literal symbol of the
past's axis 0. Graphs are `onnx_ir` models; their weights are views of the torch model until they are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topovlm.errors import InputError, explain
from topovlm.exporters.onnx.decoder import BATCH, SEQUENCE, facts_of
from topovlm.exporters.onnx.pieces import remembered
from topovlm.exporters.onnx.rules import refuse_text
from topovlm.families.catalogue import family_of
from topovlm.families.configs import VISION_KEY, ModelConfig
from topovlm.families.family import named
from topovlm.version import __version__

if TYPE_CHECKING:
    import onnx_ir as ir


def check_family(config: Any) -> None:
    """Refuse, in one sentence, a checkpoint whose graphs we cannot vouch for. Raises `InputError`.

    `config`: as transformers reads it, its defaults filled in.
    """
    held: ModelConfig = config.to_dict()
    family = family_of(held, "export")
    assert family.graphs is not None  # who exports says what
    text = held[family.text_key] if family.text_key else held
    kinds = {f"{family.text_key}.model_type".removeprefix("."): (text["model_type"], family.decoders)}
    if family.graphs.towers:
        kinds[f"{VISION_KEY}.model_type"] = (held[VISION_KEY]["model_type"], family.graphs.towers)
    for field, (kind, known) in kinds.items():
        if kind not in known:
            rule = f"is not one that this exporter knows ({', '.join(known)})"
            raise InputError(explain(field, kind, rule))
    refuse_text(dict(text), family.text_key)


def vision_graph(model: Any) -> ir.Model:
    """What `runtime.pictures` makes of pictures -> image_features, as the family's `towers` module says."""
    from topovlm.exporters.onnx.stack import Stack
    from topovlm.exporters.onnx.trace import OPSET, trace
    from topovlm.families.torch_parts import parts_of
    from topovlm.towers.vision import vision_of

    parts = parts_of(model)
    module: Any = vision_of(parts)

    def make() -> dict[str, ir.Model]:
        with parts.weights.held(module.parameters()):
            return {"vision": trace(module, module.samples(), module.axes, module.outputs)}

    piece = remembered(facts_of(parts), ("vision",), make, type(module))["vision"]
    stack = Stack("image_features", OPSET, parts.weights)
    like = {str(value.name): value for value in piece.graph.inputs}
    # An input that the traced code does not read is none: nobody feeds it.
    bound = {name: stack.input(name, like[name]) for name in module.samples() if name in like}
    results = stack.append(piece, "", bound, dict(module.named_parameters()))
    for name in module.outputs:
        stack.output(results[name], name)
    return stack.model("topovlm", __version__)


def embed_graph(model: Any) -> ir.Model:
    """input_ids `[batch_size, sequence_length]` -> inputs_embeds `[batch_size, sequence_length, hidden]`."""
    import torch

    from topovlm.exporters.onnx.modules import Embed
    from topovlm.exporters.onnx.stack import Stack
    from topovlm.exporters.onnx.trace import OPSET, trace
    from topovlm.families.torch_parts import parts_of

    parts = parts_of(model)
    own = parts.family.graphs.embed if parts.family.graphs else ""
    module: Any = named(own, __name__)(parts) if own else Embed(parts)

    def make() -> dict[str, ir.Model]:
        ids, axes = torch.zeros(2, 3, dtype=torch.long), {"input_ids": {0: BATCH, 1: SEQUENCE}}
        with parts.weights.held(module.parameters()):
            return {"embed": trace(module, {"input_ids": ids}, axes, ["embeds"])}

    piece = remembered(facts_of(parts), ("embed",), make, type(module))["embed"]
    stack = Stack("inputs_embeds", OPSET, parts.weights)
    bound = {"input_ids": stack.input("input_ids", piece.graph.inputs[0])}
    results = stack.append(piece, "embed.", bound, dict(module.named_parameters()))
    stack.output(results["embeds"], "inputs_embeds")
    return stack.model("topovlm", __version__)
