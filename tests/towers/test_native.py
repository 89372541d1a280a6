"""Vision graphs for pictures of any size are the stock towers; transformers itself makes their inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from tests.towers import tracing
from topovlm.towers.native import (
    ConvolvedPatches,
    DeepstackPatches,
    Patches,
    UnorderedPatches,
    WindowedPatches,
)

Grid = tuple[int, int]
Inputs = dict[str, torch.Tensor]
# (rows, columns) in patches: the smallest picture, a high one, a wide one; none has the traced size.
GRIDS = ((2, 2), (14, 6), (6, 22))
ROPE = {"rope_parameters": {"rope_type": "axial", "rope_theta": 1e4}}
QWEN: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4, **ROPE}
WIDE = {**QWEN, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def thw(grid: Grid) -> torch.Tensor:
    """transformers' form of one picture's grid."""
    return torch.tensor([[1, *grid]])


def plain(model: Any, grid: Grid, merge: int = 2, time: int = 2) -> Inputs:
    """Random patches and the rotary positions of a picture."""
    from transformers.vision_utils import get_vision_position_ids

    pixels = tracing.random_pixels(0, grid[0] * grid[1], 3 * time * 4 * 4)
    return {"pixel_values": pixels, "position_ids": get_vision_position_ids(thw(grid), merge)}


def windowed(model: Any, grid: Grid) -> Inputs:
    """As `plain`, and the patches of each window; padding at the front, which is as good as any place."""
    from transformers.vision_utils import get_vision_window_index

    window = model.config.vision_config.window_size
    order, ends = get_vision_window_index(thw(grid), 2, window, 4)
    patches = (order[:, None] * 4 + torch.arange(4)).flatten()
    gather = torch.full((len(ends) - 1, (window // 4) ** 2), -1)
    for row, found in zip(gather, patches.split(ends.diff().tolist()), strict=True):
        row[-len(found) :] = found
    return {**plain(model, grid), "window_gather": gather}


def interpolated(
    model: Any, grid: Grid, *, side: int, mode: str, corners: bool, merge: int = 2, time: int = 2
) -> Inputs:
    """As `plain`, and how the table of positions is read."""
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights

    indices, weights = get_vision_interpolation_indices_and_weights(
        thw(grid), side, mode=mode, align_corners=corners, spatial_merge_size=merge
    )
    return {**plain(model, grid, merge, time), "interp_indices": indices, "interp_weights": weights}


@dataclass(frozen=True)
class Case:
    """One family: its module, a tiny tower, what makes the graph's inputs, and inputs that must matter."""

    model_type: str
    module: Callable[..., Any]
    vision: dict[str, Any]
    inputs: Callable[[Any, Grid], Inputs]
    matters: tuple[str, ...] = ("position_ids",)
    text: dict[str, Any] = field(default_factory=dict)
    projector: str = "model.visual.merger"

    def __str__(self) -> str:
        return self.model_type


BILINEAR = functools.partial(interpolated, side=5, mode="bilinear", corners=True)
BICUBIC = functools.partial(interpolated, side=5, mode="bicubic", corners=False)
ROWS = functools.partial(interpolated, side=5, mode="bilinear", corners=False, merge=1, time=1)
TABLE = ("position_ids", "interp_indices", "interp_weights")
DEEP = {**WIDE, "depth": 3, "num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2]}
CASES = (
    Case("qwen2_vl", Patches, {**QWEN, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}, plain),
    Case(
        "qwen2_5_vl",
        WindowedPatches,
        {**WIDE, "depth": 3, "window_size": 16, "fullatt_block_indexes": [1]},
        windowed,
        ("position_ids", "window_gather"),
    ),
    Case("qwen3_vl", DeepstackPatches, DEEP, BILINEAR, TABLE),
    Case("qwen3_vl_moe", DeepstackPatches, DEEP, BILINEAR, TABLE, MOE),
    Case("glm4v", ConvolvedPatches, {**WIDE, "image_size": 20}, BICUBIC, TABLE),
    Case(
        "paddleocr_vl",
        UnorderedPatches,
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 20,
            "patch_size": 4,
            **ROPE,
        },
        ROWS,
        TABLE,
        projector="model.projector",
    ),
)
each_family = pytest.mark.parametrize("case", CASES, ids=str)


@functools.cache
def both(number: int, half: bool) -> tuple[Any, tracing.Graph, tuple[str, ...]]:
    """The stock model in fp32, its vision graph (in fp16) and the names of the graph's outputs."""
    from transformers import AutoConfig

    case = CASES[number]
    tokens = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    text = {**tracing.TEXT, "hidden_size": 32, "rope_parameters": rope, **case.text}
    config = AutoConfig.for_model(
        case.model_type, vision_config=case.vision, text_config=text, vision_end_token_id=63, **tokens
    )
    model = tracing.build(config)
    traced, model = tracing.halved(model) if half else (model, model)
    module = case.module(tracing.parts_of(traced, ("model.visual", case.projector)))
    return model, tracing.Graph(module), module.outputs


def outputs(case: Case, feeds: Inputs, half: bool = False) -> dict[str, np.ndarray]:
    """All outputs of the graph, in fp32, by name."""
    _, graph, names = both(CASES.index(case), half)
    found = graph.session.run(list(names), {name: value.numpy() for name, value in feeds.items()})
    return {name: np.asarray(value, np.float32) for name, value in zip(names, found, strict=True)}


def worst(case: Case, grid: Grid, half: bool = False) -> float:
    """The greatest relative error of any output, against the stock model."""
    model, *_ = both(CASES.index(case), half)
    feeds = case.inputs(model, grid)
    patches = feeds["pixel_values"]
    if case.model_type == "paddleocr_vl":  # its processor keeps a patch's shape
        patches = patches.reshape(-1, 3, 4, 4)
    with torch.no_grad():
        true = model.get_image_features(patches, thw(grid), return_dict=True)
    expected = [true.pooler_output[0], *(deep[0] for deep in getattr(true, "deepstack_features", []))]
    found = outputs(case, feeds, half)
    assert list(found) == ["image_features", *(f"deepstack_features.{i}" for i in range(len(expected) - 1))]
    pairs = zip(found.values(), expected, strict=True)
    return max(tracing.relative_error(part, full) for part, full in pairs)


@each_family
@pytest.mark.parametrize("grid", GRIDS)
def test_the_graph_is_the_stock_tower(case: Case, grid: Grid) -> None:
    """Pictures of three sizes, none of them the traced one; every output."""
    assert worst(case, grid) <= 1e-4


@each_family
def test_every_input_matters(case: Case) -> None:
    """Where patches are, their windows, how the table is read: each of them wrong moves the features."""
    feeds = case.inputs(both(CASES.index(case), False)[0], (6, 22))
    true = outputs(case, feeds)["image_features"]
    for name in case.matters:
        moved = outputs(case, {**feeds, name: feeds[name].roll(1)})["image_features"]
        assert np.abs(moved - true).max() > 1e-2 * np.abs(true).max(), name


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=str)
def test_half_precision(case: Case) -> None:
    """A graph traced in fp16 takes the same inputs, floats in fp32; all families: `benchmarks.families`."""
    assert worst(case, (6, 22), half=True) <= 1e-2


def test_deepstack_features_differ() -> None:
    """Each inner block's features are its own."""
    feeds = CASES[2].inputs(both(2, False)[0], (6, 22))
    first, second, third = outputs(CASES[2], feeds).values()
    assert min(np.abs(first - second).max(), np.abs(second - third).max()) > 1e-2


def test_patches_in_any_order() -> None:
    """PaddleOCR-VL's graph merges by position: shuffled patches give the same features."""
    feeds = CASES[5].inputs(both(5, False)[0], (6, 22))
    order = torch.randperm(6 * 22, generator=torch.Generator().manual_seed(0))
    shuffled = {name: value[order] for name, value in feeds.items()}
    true = outputs(CASES[5], feeds)["image_features"]
    np.testing.assert_allclose(outputs(CASES[5], shuffled)["image_features"], true, atol=1e-4)
