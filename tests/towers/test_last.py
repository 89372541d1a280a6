"""Last features, projected: against transformers' own image features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.last import LastFeatures


def _model(name: str) -> Any:
    from transformers import AutoConfig, SiglipVisionConfig

    tower = SiglipVisionConfig(**tracing.VISION, projection_dim=40, vision_use_head=False)
    if name == "gemma3":  # 16 patches, averaged four by four
        return tracing.build(
            AutoConfig.for_model(
                "gemma3",
                vision_config=tower,
                text_config={**tracing.TEXT, "model_type": "gemma3_text"},
                mm_tokens_per_image=4,
            )
        )
    return tracing.build(
        AutoConfig.for_model(
            "paligemma",
            vision_config=tower,
            text_config={**tracing.TEXT, "model_type": "gemma"},
            projection_dim=40,
            hidden_size=40,
        )
    )


@pytest.mark.parametrize("name", ["paligemma", "gemma3"])
def test_it_equals_the_model(name: str) -> None:
    """One picture and five, neither traced, in fp32 and in fp16; another picture gives other features."""
    model = _model(name)
    graph = tracing.Graph(LastFeatures(parts_of(model)))
    assert graph.axes == {"pixel_values": ["num_images", 3, 32, 32]}
    half, same = tracing.halved(model)
    half_graph = tracing.Graph(LastFeatures(parts_of(half)))
    for count in (1, 5):
        feeds = {"pixel_values": tracing.random_pixels(count, count, 3, 32, 32)}
        with torch.no_grad():
            expected = model.get_image_features(feeds["pixel_values"]).pooler_output
            rounded = same.get_image_features(feeds["pixel_values"]).pooler_output
        got = graph.run(**feeds)
        assert tracing.relative_error(got, expected) < 1e-4
        assert tracing.relative_error(half_graph.run(**tracing.as_half(feeds)), rounded) < 1e-2
        other = graph.run(pixel_values=feeds["pixel_values"].flip(-1))
        assert tracing.relative_error(other, expected) > 0.05
