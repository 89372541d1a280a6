"""Visual tokens of a plan, from the families' records, equal those that the runtime prepares."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topovlm.errors import InputError
from topovlm.families.catalogue import FAMILIES
from topovlm.families.known_models import KnownModel, list_known_models
from topovlm.families.sizes import picture_rules, read_shape
from topovlm.families.vision import visual_tokens
from topovlm.runtime.pictures import strategy
from topovlm.runtime.pictures.seen import Strategy
from topovlm.workload import Workload

TEXT = {
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 8,
    "vocab_size": 50,
}
SMALL = {"image_size": 32, "patch_size": 8, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 8}
MEAN = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUARE = {"size": {"height": 32, "width": 32}, **MEAN}
EDGE = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    **MEAN,
}
AREA = {"size": {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}, "patch_size": 8, "merge_size": 2}
NATIVE = {"patch_size": 8, "spatial_merge_size": 2}
PIXTRAL = {"model_type": "pixtral", **SMALL, "image_size": 64}
ONE = [[32 * rows, 32 * columns] for rows in range(1, 7) for columns in range(1, 7)]
NEXT = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
IDEFICS = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 32}}

# model type, vision_config, top of config.json, preprocessor_config.json
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "llava clip": ("llava", {"model_type": "clip_vision_model", **SMALL}, {}, EDGE),
    "llava siglip": (
        "llava",
        {"model_type": "siglip_vision_model", **SMALL},
        {"vision_feature_select_strategy": "full"},
        SQUARE,
    ),
    "llava pixtral": ("llava", PIXTRAL, {"vision_feature_layer": -1}, {"size": {"longest_edge": 64}}),
    "vipllava": (
        "vipllava",
        {"model_type": "clip_vision_model", **SMALL},
        {"vision_feature_layers": [-2, -1, 1]},
        EDGE,
    ),
    "video_llava": ("video_llava", {"model_type": "clip_vision_model", **SMALL}, {}, EDGE),
    "fast_vlm": ("fast_vlm", {"architecture": "fastvit_mci3", **SMALL}, {}, EDGE),
    "paligemma": ("paligemma", SMALL, {}, SQUARE),
    "gemma3": ("gemma3", SMALL, {"mm_tokens_per_image": 4}, SQUARE),
    "llava_next": ("llava_next", SMALL, {"image_grid_pinpoints": NEXT}, EDGE),
    "llava_next_video": ("llava_next_video", SMALL, {"image_grid_pinpoints": NEXT}, EDGE),
    "llava_onevision": ("llava_onevision", SMALL, {"image_grid_pinpoints": ONE}, SQUARE),
    "llava_onevision, 4": (
        "llava_onevision",
        SMALL,
        {"image_grid_pinpoints": ONE, "vision_aspect_ratio": "anyres_max_4"},
        SQUARE,
    ),
    "idefics3": ("idefics3", SMALL, {}, IDEFICS),
    "idefics3, odd edge": ("idefics3", SMALL, {}, {**IDEFICS, "size": {"longest_edge": 100}}),
    "idefics3, whole": ("idefics3", SMALL, {}, {**IDEFICS, "do_image_splitting": False}),
    "smolvlm": ("smolvlm", SMALL, {}, IDEFICS),
    "internvl": ("internvl", SMALL, {}, SQUARE),
    "internvl, few": ("internvl", SMALL, {}, {**SQUARE, "max_patches": 4}),
    "ovis2": (
        "ovis2",
        {**SMALL, "hidden_stride": 2},
        {},
        {**SQUARE, "crop_to_patches": True, "max_patches": 9},
    ),
    "ovis2, whole": ("ovis2", {**SMALL, "hidden_stride": 2}, {}, {**SQUARE, "crop_to_patches": False}),
    "perception_lm": (
        "perception_lm",
        {"model_args": {"img_size": [32, 32], "patch_size": 8, "embed_dim": 8, "depth": 2}},
        {"projector_pooling_ratio": 2},
        {"tile_size": 32, **MEAN},
    ),
    "videollama2 clip": (
        "videollama2_mistral",
        {"model_type": "clip_vision_model", **SMALL},
        {"num_frames": 5, "sampler_padding": 1},
        EDGE,
    ),
    "videollama2 siglip": (
        "videollama2_qwen2",
        {"model_type": "siglip_vision_model", **SMALL},
        {"num_frames": 4, "sampler_padding": 0},
        SQUARE,
    ),
    "mistral3": ("mistral3", PIXTRAL, {}, {"size": {"longest_edge": 64}}),
    "qwen2_vl": ("qwen2_vl", {**NATIVE, "embed_dim": 8, "depth": 2}, {}, {**AREA, "max_pixels": 64 * 64}),
    "qwen2_5_vl": ("qwen2_5_vl", {**NATIVE, "hidden_size": 8, "depth": 2}, {}, AREA),
    "qwen3_vl": ("qwen3_vl", {**NATIVE, "hidden_size": 8, "depth": 2}, {}, AREA),
    "qwen3_vl_moe": ("qwen3_vl_moe", {**NATIVE, "hidden_size": 8, "depth": 2}, {}, AREA),
    "glm4v": ("glm4v", {**NATIVE, "hidden_size": 8, "depth": 2}, {}, AREA),
    "video_llama_3": ("video_llama_3", {"patch_size": 8, "hidden_size": 8}, {}, {**AREA, "merge_size": 1}),
    "video_llama_3, merged": ("video_llama_3", {"patch_size": 8, "hidden_size": 8}, {}, AREA),
    "paddleocr_vl": ("paddleocr_vl", {**NATIVE, "hidden_size": 8}, {}, {**AREA, "temporal_patch_size": 1}),
}
SIZES = [(1, 1), (1, 40), (4000, 2900), (3, 4000), (4000, 30), (64, 64), (33, 31), (31, 65)]


def _sizes(count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(11)
    drawn = np.exp(rng.uniform(0, np.log(1500), (count - len(SIZES), 2))).astype(int)
    return [*SIZES, *((int(height), int(width)) for height, width in drawn)]


def _or_refusal(count: Callable[[], int]) -> int | str:
    try:
        return count()
    except InputError as error:
        return str(error)


def _seen_tokens(own: Strategy, image: Image.Image) -> int:
    return own.see(image).tokens


def test_every_family_with_pictures_is_here() -> None:
    """A new record brings a new case."""
    assert {case[0] for case in CASES.values()} == {name for name in FAMILIES if FAMILIES[name].tokens}


@pytest.mark.parametrize("name", CASES)
def test_the_plan_counts_what_is_executed(name: str) -> None:
    """Sixty pictures of any size; what one refuses, the other does too."""
    model_type, vision, top, images = CASES[name]
    config = {"model_type": model_type, "text_config": TEXT, "vision_config": vision, **top}
    shape = read_shape(config, images)
    rules = picture_rules(config, FAMILIES[model_type])
    own = strategy(rules.strategy, images=images, processor={}, config=config, token=str)
    counts = set()
    for height, width in _sizes(60):
        image, workload = Image.new("RGB", (width, height)), Workload(image_height=height, image_width=width)
        planned = _or_refusal(functools.partial(visual_tokens, shape, workload))
        executed = _or_refusal(functools.partial(_seen_tokens, own, image))
        assert executed == planned, (height, width)
        if isinstance(planned, int):
            counts.add(planned)
    one_count = shape.fixed_tokens or "whole" in name
    assert len(counts) == 1 if one_count else len(counts) >= 4
    several = [image, image.resize((70, 20))]
    seens = own.see_all(several)
    if one_count or shape.several:
        planned = visual_tokens(shape, Workload(images=2, image_height=20, image_width=70))
        assert sum(seen.tokens for seen in seens) == planned


@pytest.mark.parametrize("model", list_known_models(), ids=lambda model: model.id)
def test_known_models_at_their_own_size(model: KnownModel) -> None:
    """Sizes as published; a tile is the tower's picture."""
    shape = model.shape()
    assert shape.vision is not None
    config = model.facts.config
    rules = picture_rules(config, FAMILIES[shape.model_type])
    side = {"height": shape.vision.image_size, "width": shape.vision.image_size}
    images = {**MEAN, **(model.preprocessor or {"size": side})}
    if rules.strategy == "split":
        images["max_image_size"] = {"longest_edge": shape.vision.image_size}
    own = strategy(rules.strategy, images=images, processor={}, config=config, token=str)
    for height, width in ((480, 640), (1080, 1920), (97, 1203)):
        workload = Workload(image_height=height, image_width=width)
        assert own.see(Image.new("L", (width, height))).tokens == visual_tokens(shape, workload)
