"""Tiles picked and weighed by the host (LLaVA-NeXT, -OneVision): against transformers' own packing.

The indices are read off transformers: its packing is linear in the tiles' rows, so what it makes of rows that
stand for themselves (one-hot) says which rows make a token, and in which shares.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.packed import PackedTiles

SIDE = 32  # of a tile in px; 4 x 4 patches
PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96], [96, 96]]
TAPS = 4  # a bilinear sample has so many


def _model(name: str, tower: str, **top: Any) -> Any:
    from transformers import AutoConfig

    vision = {**tracing.VISION, "model_type": tower}
    config = AutoConfig.for_model(
        name,
        vision_config={**vision, "vision_use_head": False} if tower.startswith("siglip") else vision,
        text_config={**tracing.TEXT, "model_type": "qwen2"},
        image_grid_pinpoints=PINPOINTS,
        image_token_index=5,
        **top,
    )
    return tracing.build(config)


MODELS: dict[str, tuple[Any, ...]] = {
    "next": ("llava_next", "clip_vision_model", {}),
    "next, two layers": (
        "llava_next",
        "siglip_vision_model",
        {"vision_feature_layer": [-1, -2], "vision_feature_select_strategy": "full"},
    ),
    "onevision": ("llava_onevision", "siglip_vision_model", {"vision_aspect_ratio": "anyres_max_2"}),
}


def _tiles(height: int, width: int) -> int:
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    return image_size_to_num_patches([height, width], PINPOINTS, SIDE)


def _packing(model: Any, height: int, width: int, tiles: int) -> dict[str, torch.Tensor]:
    """feature_index and feature_weight of a picture of that size, read off transformers' own packing."""
    rows = 16 * tiles + 1
    one_hot = torch.eye(rows)
    names: dict[str, Any] = {"image_newline": one_hot[-1]}
    if model.config.model_type == "llava_next":
        names["vision_feature_select_strategy"] = "default"
    else:
        names["vision_aspect_ratio"] = model.config.vision_aspect_ratio
    features = one_hot[:-1].reshape(tiles, 16, rows)
    ((shares,), _) = model.model.pack_image_features([features], [[height, width]], **names)
    assert ((shares != 0).sum(1) <= TAPS).all()
    weight, index = shares.topk(TAPS, dim=1)
    assert torch.allclose(weight.sum(1), torch.ones(len(weight)))
    return {"feature_index": index.T.contiguous(), "feature_weight": weight.T.contiguous()}


def _feeds(model: Any, height: int, width: int) -> dict[str, torch.Tensor]:
    tiles = _tiles(height, width)
    pixels = tracing.random_pixels(height + width, tiles, 3, SIDE, SIDE)
    return {"pixel_values": pixels, **_packing(model, height, width, tiles)}


def _expected(model: Any, feeds: dict[str, torch.Tensor], height: int, width: int) -> torch.Tensor:
    with torch.no_grad():
        outputs = model.get_image_features(feeds["pixel_values"], torch.tensor([[height, width]]))
    (features,) = outputs.pooler_output
    return features


@pytest.mark.parametrize("case", list(MODELS))
def test_it_equals_the_model(case: str) -> None:
    """Pictures of three shapes, whose tiles are padded above, beside and not at all, one shrunk."""
    name, tower, top = MODELS[case]
    model = _model(name, tower, **top)
    module = PackedTiles(parts_of(model))
    graph = tracing.Graph(module)
    assert graph.axes == {
        "pixel_values": ["num_tiles", 3, SIDE, SIDE],
        "feature_index": ["num_taps", "num_tokens"],
        "feature_weight": ["num_taps", "num_tokens"],
    }
    for height, width in ((30, 60), (100, 37), (96, 90)):
        feeds = _feeds(model, height, width)
        expected = _expected(model, feeds, height, width)
        got = graph.run(**feeds)
        assert tracing.relative_error(got, expected) < 1e-4
        # Most tokens of an exactly placed picture have one tap: the graph takes any number.
        if (feeds["feature_weight"][1:] == 0).all():
            one = {name: feeds[name][:1] for name in ("feature_index", "feature_weight")}
            assert tracing.relative_error(graph.run(**{**feeds, **one}), expected) < 1e-4
        other = graph.run(**{**feeds, "feature_index": feeds["feature_index"].flip(-1)})
        assert tracing.relative_error(other, expected) > 0.05


def test_a_picture_is_shrunk_in_one_of_the_sizes() -> None:
    """The tokens of a large picture are mixtures: the test above does not pass for want of them."""
    name, tower, top = MODELS["onevision"]
    feeds = _feeds(_model(name, tower, **top), 96, 90)
    assert (feeds["feature_weight"][1:] > 0.05).any()


def test_one_tile_and_the_newline() -> None:
    """A picture that is not split: its rows, then the newline, as transformers packs it."""
    name, tower, top = MODELS["next"]
    model = _model(name, tower, **top)
    module = PackedTiles(parts_of(model))
    index = torch.arange(17)[None]
    feeds = {
        "pixel_values": tracing.random_pixels(0, 1, 3, SIDE, SIDE),
        "feature_index": index,
        "feature_weight": torch.ones(1, 17),
    }
    with torch.no_grad():
        states = model.model.vision_tower(feeds["pixel_values"], output_hidden_states=True).hidden_states
        tile = model.model.multi_modal_projector(states[-2][:, 1:])
        ((expected,), _) = model.model.pack_image_features(
            [tile], [[32, 32]], "default", image_newline=model.model.image_newline
        )
    assert tracing.relative_error(tracing.Graph(module).run(**feeds), expected) < 1e-4
