"""Tiny towers for pictures of any size, traced, and the stock model beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch

from tests.tiny import _redraw
from topovlm.exporters.onnx.stack import Stack
from topovlm.exporters.onnx.trace import OPSET, trace
from topovlm.families.catalogue import find_family
from topovlm.families.family import Decoder, Family, Modules, Tokens
from topovlm.families.torch_parts import TorchParts

Inputs = dict[str, np.ndarray]
# (rows, columns) in patches: the smallest picture, a high one, a wide one; none has the traced size.
GRIDS = ((2, 2), (14, 6), (6, 22))
IMAGE = 60  # the token that stands for a picture
TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}


def tiny(
    model_type: str, vision: dict[str, Any], text: dict[str, Any] | None = None, dtype: str = "float32"
) -> Any:
    """A random model of that type, its weights drawn so that every block matters."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokens = {
        "image_token_id": 60,
        "video_token_id": 61,
        "vision_start_token_id": 62,
        "vision_end_token_id": 63,
    }
    config = AutoConfig.for_model(
        model_type, vision_config=vision, text_config={**TEXT, **(text or {})}, **tokens
    )
    with torch.random.fork_rng():
        model = AutoModelForImageTextToText.from_config(config).eval()
    _redraw(model, 3)
    if dtype != "float32":
        for parameter in model.parameters():
            parameter.data = parameter.data.to(getattr(torch, dtype))
    return model


def parts(model: Any, tower: str = "model.visual", projector: str = "model.visual.merger") -> TorchParts:
    """The model taken apart as a record would say it; what the record counts plays no part here."""
    kind = model.config.model_type
    blank = Family(
        model_type=kind,
        actions=("plan",),
        default_decoder="llama",
        default_tower="none",
        tokens=Tokens(layout="native", projector="merger"),
    )
    family = msgspec.structs.replace(
        find_family(kind) or blank, modules=Modules(tower=tower, projector=projector)
    )
    return TorchParts(model, family, Decoder(model_type=model.config.get_text_config().model_type))


@dataclass(frozen=True)
class Traced:
    """A vision graph in ONNX Runtime, with its weights, and the names of its outputs."""

    session: ort.InferenceSession
    outputs: tuple[str, ...]

    def run(self, feeds: Inputs) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(list(self.outputs), feeds), strict=True))


def traced(module: Any) -> Traced:
    """Trace `module` and bind its weights by name, as the exporter does."""
    piece = trace(module, module.samples(), module.axes, module.outputs)
    stack = Stack("image_features", OPSET)
    given = {str(value.name): value for value in piece.graph.inputs}
    bound = {name: stack.input(name, given[name]) for name in module.samples()}
    results = stack.append(piece, "", bound, dict(module.named_parameters()))
    for name in module.outputs:
        stack.output(results[name], name)
    model = stack.model("tests", "0")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return Traced(
        ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"]),
        module.outputs,
    )


def pixels(grid: tuple[int, int], values: int, seed: int = 0) -> np.ndarray:
    """Random patches `[patches, values]`."""
    noise = np.random.default_rng([seed, *grid]).normal(size=(grid[0] * grid[1], values))
    return noise.astype(np.float32)


def thw(grid: tuple[int, int]) -> torch.Tensor:
    """transformers' form of one picture's grid."""
    return torch.tensor([[1, *grid]])


def error(found: np.ndarray, true: torch.Tensor) -> float:
    """The greatest difference, relative to the greatest value."""
    expected = true.detach().float().numpy()
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 1e-2
    return float(np.abs(found.astype(np.float32) - expected).max() / np.abs(expected).max())


def stock(model: Any, patches: np.ndarray, grid: tuple[int, int]) -> Any:
    """What transformers computes for one picture."""
    with torch.no_grad():
        return model.get_image_features(torch.from_numpy(patches), thw(grid), return_dict=True)
