"""Pictures at their own size (LLaVA with a Pixtral tower, Mistral3): against transformers' own features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.pixtral import NativePicture

PATCH, COLUMNS = 4, 16  # the largest picture has 16 x 16 patches


def _model(name: str, **top: Any) -> Any:
    from transformers import AutoConfig

    facts = {**tracing.VISION, "image_size": PATCH * COLUMNS, "patch_size": PATCH, "head_dim": 16}
    config = AutoConfig.for_model(
        name,
        vision_config={"model_type": "pixtral", **facts},
        text_config={**tracing.TEXT, "model_type": "mistral"},
        **{"vision_feature_layer": -1, "image_token_index": 5, **top},
    )
    return tracing.build(config)


def _feeds(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """A picture of that many patches and their places in a table of `COLUMNS` columns."""
    places = torch.arange(rows)[:, None] * COLUMNS + torch.arange(columns)
    pixels = tracing.random_pixels(rows + columns, 1, 3, PATCH * rows, PATCH * columns)
    return {"pixel_values": pixels, "position_ids": places.flatten()}


def _expected(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        sizes = torch.tensor([pixels.shape[2:]])
        (features,) = model.get_image_features(pixels, image_sizes=sizes).pooler_output
    return features


MODELS = {
    "llava": ("llava", {"vision_feature_select_strategy": "full"}),
    "llava, two layers": (
        "llava",
        {"vision_feature_select_strategy": "full", "vision_feature_layer": [-1, 1]},
    ),
    "mistral3": ("mistral3", {"spatial_merge_size": 2}),
}


@pytest.mark.parametrize("case", list(MODELS))
def test_it_equals_the_model(case: str) -> None:
    """Pictures of other sizes than the traced one, to the largest and the smallest; positions matter."""
    name, top = MODELS[case]
    model = _model(name, **top)
    graph = tracing.Graph(NativePicture(parts_of(model)))
    assert graph.axes == {"pixel_values": [1, 3, "height", "width"], "position_ids": ["num_patches"]}
    smallest = (2, 4) if name == "mistral3" else (1, 1)  # transformers fails on a single merged token
    for rows, columns in (smallest, (6, 4), (4, 10), (16, 16)):
        feeds = _feeds(rows, columns)
        expected = _expected(model, feeds["pixel_values"])
        assert tracing.relative_error(graph.run(**feeds), expected) < 1e-4
        other = {**feeds, "position_ids": feeds["position_ids"].flip(0) // 2}
        assert rows == 1 or tracing.relative_error(graph.run(**other), expected) > 0.01
