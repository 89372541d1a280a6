"""Vision graphs for tests: a tiny random model's, traced, bound to its weights and run by ONNX Runtime."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch

from tests.tiny_families import redraw
from topovlm.exporters.onnx.stack import Stack
from topovlm.exporters.onnx.trace import OPSET, trace
from topovlm.families import torch_parts
from topovlm.families.family import Modules
from topovlm.families.mapped import InMemory
from topovlm.families.torch_parts import TorchParts
from topovlm.towers.vision import Vision

TEXT = {
    "vocab_size": 64,
    "hidden_size": 40,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def build(config: Any, seed: int = 0) -> Any:
    """The model of a configuration, weights drawn so that every part of it matters."""
    from transformers import AutoModelForImageTextToText

    with torch.random.fork_rng():
        model = AutoModelForImageTextToText.from_config(config).eval()
    redraw(model, seed)
    return model


def parts_of(model: Any, modules: tuple[str, str]) -> TorchParts:
    """Parts by the family's record, with these modules (tower, projector)."""
    parts = torch_parts.parts_of(model)
    family = msgspec.structs.replace(parts.family, modules=Modules(tower=modules[0], projector=modules[1]))
    return dataclasses.replace(parts, family=family)


def random_pixels(seed: int, *shape: int) -> torch.Tensor:
    """Pixels as a processor normalises them, `[-1, 1]`."""
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1


def session(model: ir.Model) -> ort.InferenceSession:
    """Ready to run on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])


class Graph:
    """A module's graph with its weights; `axes`: of each input, numbers or names; `weights`: names bound."""

    def __init__(self, module: Vision) -> None:
        assert isinstance(module, torch.nn.Module)
        piece = trace(module, module.samples(), module.axes, module.outputs)
        stack = Stack("vision", OPSET, InMemory())
        like = {str(value.name): value for value in piece.graph.inputs}
        bound = {name: stack.input(name, like[name]) for name in module.samples()}
        self.weights = set(like) - set(bound)
        results = stack.append(piece, "", bound, dict(module.named_parameters()))
        for name in module.outputs:
            stack.output(results[name], name)
        model = stack.model("tests", "0")
        self.axes = {
            str(value.name): [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ()]
            for value in model.graph.inputs
        }
        self.session = session(model)

    def run(self, **feeds: torch.Tensor) -> np.ndarray[Any, Any]:
        """The first output, in fp32."""
        (features, *_) = self.session.run(None, {name: value.numpy() for name, value in feeds.items()})
        return np.asarray(features, np.float32)


def relative_error(got: np.ndarray[Any, Any], expected: torch.Tensor) -> float:
    """Largest difference, in units of the largest expected value; shapes must be equal."""
    wanted = expected.detach().float().numpy()
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def halved(model: Any) -> tuple[Any, Any]:
    """(the model in fp16, the same weights in fp32)."""
    half = copy.deepcopy(model).half()
    return half, copy.deepcopy(half).float()


def as_half(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same inputs, floats in fp16."""
    return {name: value.half() if value.is_floating_point() else value for name, value in feeds.items()}
