"""Idefics3's and SmolVLM's masked tiles: against transformers' own image features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.split import MaskedTiles


def _model(name: str, side: int = 6) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        name,
        vision_config={**tracing.VISION, "image_size": 8 * side, "model_type": f"{name}_vision"},
        text_config={**tracing.TEXT, "model_type": "llama"},
        scale_factor=2,
        image_token_id=5,
    )
    return tracing.build(config)


def _mask(side: int, *pictures: tuple[int, int]) -> torch.Tensor:
    """One tile per picture of that height and width, padded to the right and below."""
    mask = torch.zeros((len(pictures), side, side), dtype=torch.bool)
    for tile, (height, width) in zip(mask, pictures, strict=True):
        tile[:height, :width] = True
    return mask


def _expected(model: Any, feeds: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        outputs = model.get_image_features(*(value[None] for value in feeds.values()))
    (features,) = outputs.pooler_output
    tiles = len(feeds["pixel_values"])
    return features.reshape(tiles, -1, features.shape[-1])


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_it_equals_the_model(name: str) -> None:
    """One tile and four, whole and padded, in fp32 and in fp16; another mask gives other features."""
    model = _model(name)
    graph = tracing.Graph(MaskedTiles(parts_of(model)))
    assert graph.axes == {
        "pixel_values": ["num_tiles", 3, 48, 48],
        "pixel_attention_mask": ["num_tiles", 48, 48],
    }
    half, same = tracing.halved(model)
    half_graph = tracing.Graph(MaskedTiles(parts_of(half)))
    whole = (48, 48)
    for pictures in ([(17, 30)], [whole], [whole, (48, 23), (1, 1), (9, 48)]):
        pixels = tracing.random_pixels(len(pictures), len(pictures), 3, 48, 48)
        feeds = {"pixel_values": pixels, "pixel_attention_mask": _mask(48, *pictures)}
        expected = _expected(model, feeds)
        assert tracing.relative_error(graph.run(**feeds), expected) < 1e-4
        rounded = _expected(same, feeds)
        assert tracing.relative_error(half_graph.run(**tracing.as_half(feeds)), rounded) < 1e-2
        other = {**feeds, "pixel_attention_mask": _mask(48, *((40, 40) for _ in pictures))}
        assert tracing.relative_error(graph.run(**other), expected) > 0.05


@pytest.mark.parametrize("side", [7, 26])
def test_positions_are_those_of_the_model(side: int) -> None:
    """Every height and width in patches: where floats decide between two positions, as transformers' own."""
    model = _model("smolvlm", side)
    module = MaskedTiles(parts_of(model))
    embeddings = model.model.vision_model.embeddings
    asked: list[torch.Tensor] = []
    embeddings.position_embedding.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    for rows in range(1, side + 1):
        seen = _mask(side, *((rows, columns) for columns in range(1, side + 1)))
        embeddings(torch.zeros((side, 3, 8 * side, 8 * side)), patch_attention_mask=seen)
        assert torch.equal(module._positions(seen), asked.pop())


def test_positions_of_the_graph_are_those_of_the_model() -> None:
    """Every side of a published tower's 26 patches, through ONNX Runtime's arithmetic."""
    model = _model("smolvlm", 26)
    graph = tracing.Graph(MaskedTiles(parts_of(model)))
    pixels = tracing.random_pixels(0, 13, 3, 208, 208)
    for first in (1, 14):
        mask = _mask(208, *((8 * size, 8 * (27 - size)) for size in range(first, first + 13)))
        feeds = {"pixel_values": pixels, "pixel_attention_mask": mask}
        assert tracing.relative_error(graph.run(**feeds), _expected(model, feeds)) < 1e-4
