"""Positions of prompts with pictures are those that each family's own model computes."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.runtime.positions import grid_positions

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "paddleocr_vl")
IMAGE, MERGE = 9, 2
grids = st.tuples(st.just(1), st.integers(1, 12), st.integers(1, 12))
# Each picture between marks, as all these families write it; then words, perhaps none.
prompts = st.tuples(st.lists(st.tuples(st.integers(1, 8), grids), max_size=3), st.integers(0, 8))


@functools.cache
def stock(family: str) -> Any:
    """The family's model without its weights, which positions do not need."""
    import transformers
    from transformers.models.auto import modeling_auto

    top: Any = getattr(transformers, modeling_auto.MODEL_MAPPING_NAMES[family])
    model = top.__new__(top)
    model.__dict__.update(rope_deltas=None, _modules={}, _buffers={}, _parameters={})
    vision = SimpleNamespace(spatial_merge_size=MERGE, tokens_per_second=4, temporal_patch_size=2)
    model.__dict__["config"] = SimpleNamespace(
        vision_config=vision, image_token_id=IMAGE, video_token_id=8, vision_start_token_id=7
    )
    return model


def ids_of(pictures: list[tuple[int, tuple[int, int, int]]], after: int) -> np.ndarray:
    """Words, a picture, words, a picture, ..., words."""
    parts = [np.ones(1, np.int64)]
    for words, grid in pictures:
        parts += [np.ones(words, np.int64), np.full(int(np.prod(grid)), IMAGE)]
    return np.concatenate([*parts, np.ones(after, np.int64)])


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=60)
@given(prompt=prompts)
def test_positions_are_the_models_own(family: str, prompt: Any) -> None:
    """No picture to three, of any size: the whole prompt, and the eight tokens that follow."""
    import torch

    model = stock(family)
    pictures, after = prompt
    ids = ids_of(pictures, after)
    patches = torch.tensor([(t, MERGE * h, MERGE * w) for _, (t, h, w) in pictures]).reshape(-1, 3)
    given_ids = torch.from_numpy(ids)[None]
    true, deltas = model.get_rope_index(
        given_ids, (given_ids == IMAGE).int(), image_grid_thw=patches if len(patches) else None
    )
    positions, following = grid_positions(ids, IMAGE, [grid for _, grid in pictures])
    assert positions.dtype == np.int64
    np.testing.assert_array_equal(positions, true[:, 0].numpy())
    model.__dict__["rope_deltas"] = deltas
    for step in range(8):
        cache = SimpleNamespace(get_seq_length=lambda step=step: len(ids) + step)
        new = model.compute_3d_position_ids(
            input_ids=None,
            inputs_embeds=torch.zeros(1, 1, 4),
            image_grid_thw=None,
            video_grid_thw=None,
            attention_mask=None,
            cache=cache,
        )
        assert new.flatten().tolist() == [following + step] * 3


def test_pictures_side_by_side() -> None:
    """Two pictures without a word between them are two: by how many tokens each takes."""
    positions, following = grid_positions(np.full(6, IMAGE), IMAGE, [(1, 1, 2), (1, 2, 2)])
    assert positions.tolist() == [[0, 0, 2, 2, 2, 2], [0, 0, 2, 2, 3, 3], [0, 1, 2, 3, 2, 3]]
    assert following == 4


@pytest.mark.parametrize(
    ("ids", "given_grids"),
    [([1, 9, 9, 1], []), ([1, 9, 9, 1], [(1, 1, 3)]), ([1, 9, 1, 9], [(1, 1, 2)]), ([1], [(1, 1, 1)])],
)
def test_tokens_that_are_not_the_pictures_are_refused(ids: list[int], given_grids: Any) -> None:
    """Too many image tokens, too few, with a word among them, none."""
    with pytest.raises(InputError, match="image tokens"):
        grid_positions(np.asarray(ids), IMAGE, given_grids)
