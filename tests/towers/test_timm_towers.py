"""Perception-LM and FastVLM, whose towers are timm's: against transformers' own image features.

timm is not one of our dependencies. Without it other towers of the same kind stand in for its own.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.last import FeatureMaps, TiledFeatures

WITH_TIMM = pytest.param(
    "timm", marks=pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
)


def _perception(tower: str, **top: Any) -> Any:
    from transformers import AutoConfig

    vision: dict[str, Any] = {"model_type": "clip_vision_model", **tracing.VISION}
    vision["model_args"] = {"embed_dim": 32, "img_size": [32, 32]}
    if tower == "timm":
        own = {"img_size": [56, 56], "depth": 2, "num_heads": 2, "patch_size": 14, "ref_feat_shape": [4, 4]}
        more = {"global_pool": "", "use_post_transformer_norm": False, "init_values": 0.1}
        vision = {
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "do_pooling": True,
            "model_args": {"embed_dim": 32, **own, **more},
        }
    text = {**tracing.TEXT, "model_type": "llama"}
    config = AutoConfig.for_model("perception_lm", vision_config=vision, text_config=text, **top)
    return tracing.build(config)


@pytest.mark.parametrize("tower", ["clip", WITH_TIMM])
@pytest.mark.parametrize("top", [{"projector_pooling_ratio": 2}, {"vision_use_cls_token": True}])
def test_perception_equals_the_model(tower: str, top: dict[str, Any]) -> None:
    """One tile and five, neither traced; with pooling in the projector and without."""
    model = _perception(tower, **top)
    module = TiledFeatures(parts_of(model))
    graph = tracing.Graph(module)
    side = module.samples()["pixel_values"].shape[-1]
    assert graph.axes == {"pixel_values": ["num_tiles", 3, side, side]}
    for count in (1, 5):
        pixels = tracing.random_pixels(count, count, 3, side, side)
        with torch.no_grad():
            expected = model.model.get_image_features(pixels[None]).pooler_output
        assert tracing.relative_error(graph.run(pixel_values=pixels), expected) < 1e-4
        assert tracing.relative_error(graph.run(pixel_values=pixels.flip(-1)), expected) > 0.05


def _fast(tower: str) -> Any:
    from transformers import AutoConfig

    vision: dict[str, Any] = {
        "model_type": "resnet",
        "hidden_size": 16,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "embedding_size": 8,
        "layer_type": "basic",
    }
    if tower == "timm":
        vision = {
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "hidden_size": 64,
            "do_pooling": True,
            "global_pool": "avg",
            "model_args": {"inference_mode": True, "embed_dims": [16, 32, 32, 32, 32], "layers": [1] * 5},
        }
    text = {**tracing.TEXT, "model_type": "qwen2"}
    model = tracing.build(AutoConfig.for_model("fast_vlm", vision_config=vision, text_config=text))
    generator = torch.Generator().manual_seed(1)
    for name, stored in model.model.vision_tower.named_buffers():
        if stored.is_floating_point():  # a norm's mean and variance
            drawn = torch.rand(stored.shape, generator=generator)
            stored.copy_(drawn + 0.5 if name.endswith("var") else 0.2 * drawn)
    return model


@pytest.mark.parametrize("tower", ["resnet", WITH_TIMM])
def test_fast_equals_the_model(tower: str) -> None:
    """Pictures of other numbers and sizes than the traced ones; what norms have stored is bound."""
    model = _fast(tower)
    before = set(model.state_dict()), {name for name, _ in model.named_parameters()}
    module = FeatureMaps(parts_of(model))
    graph = tracing.Graph(module)
    assert before == (set(model.state_dict()), {name for name, _ in model.named_parameters()})
    assert graph.axes == {"pixel_values": ["num_images", 3, "height", "width"]}
    assert any("running_var" in name for name in graph.weights)
    for count, height, width in ((1, 128, 64), (3, 192, 256)):
        pixels = tracing.random_pixels(count, count, 3, height, width)
        with torch.no_grad():
            expected = model.get_image_features(pixels).pooler_output
        assert tracing.relative_error(graph.run(pixel_values=pixels), expected) < 1e-4
        assert tracing.relative_error(graph.run(pixel_values=pixels.flip(-1)), expected) > 0.05


def test_in_half_precision() -> None:
    """The fp16 graphs give what their rounded weights give in fp32."""
    half, same = tracing.halved(_fast("resnet"))
    feeds = {"pixel_values": tracing.random_pixels(0, 1, 3, 64, 128)}
    with torch.no_grad():
        expected = same.get_image_features(**feeds).pooler_output
    got = tracing.Graph(FeatureMaps(parts_of(half))).run(**tracing.as_half(feeds))
    assert tracing.relative_error(got, expected) < 1e-2
    half, same = tracing.halved(_perception("clip", projector_pooling_ratio=2))
    feeds = {"pixel_values": tracing.random_pixels(0, 3, 3, 32, 32)}
    with torch.no_grad():
        expected = same.model.get_image_features(feeds["pixel_values"][None]).pooler_output
    got = tracing.Graph(TiledFeatures(parts_of(half))).run(**tracing.as_half(feeds))
    assert tracing.relative_error(got, expected) < 1e-2
