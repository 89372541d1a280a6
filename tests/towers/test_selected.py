"""Features of chosen layers, projected (LLaVA-1.5, ViP-LLaVA): against transformers' own image features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.selected import SelectedFeatures

MODELS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "clip": ("llava", "clip_vision_model", {}, {}),
    "clip, two layers": (
        "llava",
        "clip_vision_model",
        {"hidden_act": "gelu"},
        {"vision_feature_layer": [-2, 0], "vision_feature_select_strategy": "full"},
    ),
    "siglip with its head": (
        "llava",
        "siglip_vision_model",
        {"patch_size": 7},  # does not divide the side: the last pixels are not seen
        {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
    ),
    "vip": ("vipllava", "clip_vision_model", {}, {"vision_feature_layer": [-1, -2, 1]}),
}


def _model(case: str) -> Any:
    from transformers import AutoConfig

    name, tower, vision, top = MODELS[case]
    config = AutoConfig.for_model(
        name,
        vision_config={"model_type": tower, **tracing.VISION, **vision},
        text_config={**tracing.TEXT, "model_type": "llama"},
        image_token_index=5,
        **top,
    )
    return tracing.build(config)


def _expected(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        features = model.get_image_features(pixels).pooler_output
    return torch.stack(tuple(features))


@pytest.mark.parametrize("case", list(MODELS))
def test_it_equals_the_model(case: str) -> None:
    """One picture and five, neither traced; a mirrored picture gives other features."""
    model = _model(case)
    graph = tracing.Graph(SelectedFeatures(parts_of(model)))
    assert graph.axes == {"pixel_values": ["num_images", 3, 32, 32]}
    for count in (1, 5):
        pixels = tracing.random_pixels(count, count, 3, 32, 32)
        expected = _expected(model, pixels)
        assert tracing.relative_error(graph.run(pixel_values=pixels), expected) < 1e-4
        assert tracing.relative_error(graph.run(pixel_values=pixels.flip(-1)), expected) > 0.05


def test_in_half_precision() -> None:
    """The fp16 graph gives what its rounded weights give in fp32."""
    half, same = tracing.halved(_model("vip"))
    feeds = {"pixel_values": tracing.random_pixels(0, 3, 3, 32, 32)}
    got = tracing.Graph(SelectedFeatures(parts_of(half))).run(**tracing.as_half(feeds))
    assert tracing.relative_error(got, _expected(same, feeds["pixel_values"])) < 1e-2
