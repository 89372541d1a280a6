"""Vision graphs for pictures of any size are the stock towers; transformers itself makes their inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from tests.towers import native
from tests.towers.native import Inputs, Traced
from topovlm.towers.native import (
    ConvolvedPatches,
    DeepstackPatches,
    Patches,
    UnorderedPatches,
    WindowedPatches,
)

Grid = tuple[int, int]
ROPE = {"rope_parameters": {"rope_type": "axial", "rope_theta": 1e4}}
QWEN: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4, **ROPE}
WIDE = {**QWEN, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def plain(model: Any, grid: Grid, merge: int = 2, time: int = 2) -> Inputs:
    """Random patches and the rotary positions of a picture."""
    from transformers.vision_utils import get_vision_position_ids

    positions = get_vision_position_ids(native.thw(grid), merge).numpy()
    return {"pixel_values": native.pixels(grid, 3 * time * 4 * 4), "position_ids": positions}


def windowed(model: Any, grid: Grid) -> Inputs:
    """As `plain`, and the patches of each window; padding at the front, which is as good as any place."""
    from transformers.vision_utils import get_vision_window_index

    window = model.config.vision_config.window_size
    order, ends = get_vision_window_index(native.thw(grid), 2, window, 4)
    patches = (order[:, None] * 4 + torch.arange(4)).flatten().numpy()
    gather = np.full((len(ends) - 1, (window // 4) ** 2), -1)
    for row, found in zip(gather, np.split(patches, ends[1:-1].numpy()), strict=True):
        row[-len(found) :] = found
    return {**plain(model, grid), "window_gather": gather}


def interpolated(
    model: Any, grid: Grid, *, side: int, mode: str, corners: bool, merge: int = 2, time: int = 2
) -> Inputs:
    """As `plain`, and how the table of positions is read."""
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights

    indices, weights = get_vision_interpolation_indices_and_weights(
        native.thw(grid), side, mode=mode, align_corners=corners, spatial_merge_size=merge
    )
    taps = {"interp_indices": indices.numpy(), "interp_weights": weights.numpy()}
    return {**plain(model, grid, merge, time), **taps}


@dataclass(frozen=True)
class Case:
    """One family: its module, a tiny tower, what makes the graph's inputs, and inputs that must matter."""

    model_type: str
    module: Callable[..., Any]
    vision: dict[str, Any]
    inputs: Callable[[Any, Grid], Inputs]
    matters: tuple[str, ...] = ("position_ids",)
    text: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

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
        {},
        {"projector": "model.projector"},
    ),
)
each_family = pytest.mark.parametrize("case", CASES, ids=str)


@functools.cache
def both(number: int, dtype: str) -> tuple[Any, Traced]:
    """The stock model and its vision graph."""
    case = CASES[number]
    model = native.tiny(case.model_type, case.vision, case.text, dtype)
    return model, native.traced(case.module(native.parts(model, **case.where)))


def worst(case: Case, grid: Grid, dtype: str = "float32") -> float:
    """The greatest relative error of any output, against the stock model."""
    model, graph = both(CASES.index(case), dtype)
    feeds = case.inputs(model, grid)
    patches = feeds["pixel_values"]
    if case.model_type == "paddleocr_vl":  # its processor keeps a patch's shape
        patches = patches.reshape(-1, 3, 4, 4)
    true = native.stock(model, patches, grid)
    expected = [true.pooler_output[0], *(deep[0] for deep in getattr(true, "deepstack_features", []))]
    found = graph.run(feeds)
    assert list(found) == ["image_features", *(f"deepstack_features.{i}" for i in range(len(expected) - 1))]
    return max(native.error(part, full) for part, full in zip(found.values(), expected, strict=True))


@each_family
@pytest.mark.parametrize("grid", native.GRIDS)
def test_the_graph_is_the_stock_tower(case: Case, grid: Grid) -> None:
    """Pictures of three sizes, none of them the traced one; every output."""
    assert worst(case, grid) <= 1e-4


@each_family
def test_every_input_matters(case: Case) -> None:
    """Where patches are, and how the table is read: each of them wrong moves the features."""
    model, graph = both(CASES.index(case), "float32")
    feeds = case.inputs(model, (6, 22))
    true = graph.run(feeds)["image_features"]
    for name in case.matters:
        moved = {**feeds, name: np.ascontiguousarray(np.roll(feeds[name], 1))}
        assert np.abs(graph.run(moved)["image_features"] - true).max() > 1e-2 * np.abs(true).max(), name


@each_family
def test_half_precision(case: Case) -> None:
    """A graph traced in fp16 takes the same inputs."""
    assert worst(case, (6, 22), "float16") <= 1e-2


def test_deepstack_features_differ() -> None:
    """Each inner block's features are its own."""
    model, graph = both(2, "float32")
    first, second, third = graph.run(CASES[2].inputs(model, (6, 22))).values()
    assert min(np.abs(first - second).max(), np.abs(second - third).max()) > 1e-2


def test_patches_in_any_order() -> None:
    """PaddleOCR-VL's graph merges by position: shuffled patches give the same features."""
    model, graph = both(5, "float32")
    feeds = CASES[5].inputs(model, (6, 22))
    order = np.random.default_rng(0).permutation(6 * 22)
    shuffled = {name: np.ascontiguousarray(value[order]) for name, value in feeds.items()}
    np.testing.assert_allclose(
        graph.run(shuffled)["image_features"], graph.run(feeds)["image_features"], atol=1e-4
    )
