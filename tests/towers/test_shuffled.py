"""InternVL's tiles and pixel shuffle: against transformers' own image features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.shuffled import ShuffledTiles

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as published": ({}, {}),
    "rms norms": ({"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": True}, {}),
    "layer before last": ({"use_mean_pooling": False}, {"vision_feature_layer": -2}),
    "last norm": ({"use_mean_pooling": False}, {"downsample_ratio": 0.25}),
}


def _model(vision: dict[str, Any], top: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    facts = {**tracing.VISION, "image_size": [32, 32], "patch_size": [8, 8], **vision}
    config = AutoConfig.for_model(
        "internvl",
        vision_config={"model_type": "internvl_vision", **facts},
        text_config={**tracing.TEXT, "model_type": "qwen2"},
        **top,
    )
    return tracing.build(config)


@pytest.mark.parametrize("case", list(CASES))
def test_it_equals_the_model(case: str) -> None:
    """One tile and five, neither traced; a mirrored tile gives other features."""
    model = _model(*CASES[case])
    graph = tracing.Graph(ShuffledTiles(parts_of(model)))
    assert graph.axes == {"pixel_values": ["num_tiles", 3, 32, 32]}
    for count in (1, 5):
        pixels = tracing.random_pixels(count, count, 3, 32, 32)
        with torch.no_grad():
            expected = model.get_image_features(pixels).pooler_output
        assert tracing.relative_error(graph.run(pixel_values=pixels), expected) < 1e-4
        assert tracing.relative_error(graph.run(pixel_values=pixels.flip(-1)), expected) > 0.05
