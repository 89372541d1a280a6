"""Frames of which only what changes is kept (VideoLLaMA3): against torch and transformers' processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from tests import tiny_families
from tests.runtime.pictures.oracle import pictures
from topovlm.errors import InputError
from topovlm.families.facts import ModelFacts
from topovlm.runtime.pictures import strategy
from topovlm.runtime.pictures.sifted import averages, changes
from topovlm.videos.frames import Frames

TEXT = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8}
CONFIG: dict[str, Any] = {
    "model_type": "video_llama_3",
    "image_token_id": 1,
    "video_token_id": 2,
    "text_config": {**TEXT, "vocab_size": 50},
    "vision_config": {"hidden_size": 8, "patch_size": 8},
}
IMAGES = {"patch_size": 8, "size": {"shortest_edge": 512, "longest_edge": 96 * 96}}
VIDEOS = {"patch_size": 8, "size": {"shortest_edge": 512, "longest_edge": 30 * 256}}


def _strategy(images: dict[str, Any] = IMAGES, videos: dict[str, Any] = VIDEOS) -> Any:
    tokens = {1: "<i>", 2: "<v>"}
    return strategy(
        "sifted", images=images, processor={}, config=CONFIG, token=tokens.__getitem__, videos=videos
    )


@pytest.mark.parametrize("merge", [1, 2, 3, 4])
def test_averages_are_what_bilinear_scaling_reads(merge: int) -> None:
    """torch's own, of a grid whose patches lie block by block."""
    rows, columns = 2 * merge, 3 * merge
    grid = torch.randn(rows, columns, dtype=torch.float64)
    blocks = grid.reshape(2, merge, 3, merge).permute(0, 2, 1, 3).flatten().numpy()
    read = averages(np.arange(6), merge)
    found = (blocks[read["feature_index"]] * read["feature_weight"]).sum(1).reshape(2, 3)
    expected = functional.interpolate(grid[None, None], size=(2, 3), mode="bilinear")[0, 0]
    assert np.allclose(found, expected)


def test_pictures_are_the_processors() -> None:
    """Pixels and tokens of its image processor, also where it merges; what its file leaves out, it takes."""
    from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import (
        VideoLlama3ImageProcessorPil,
    )

    for more in ({}, {"merge_size": 2}):
        theirs, own = VideoLlama3ImageProcessorPil(**{**IMAGES, **more}), _strategy({**IMAGES, **more})
        for image in pictures():
            made, seen = theirs([image], return_tensors="np"), own.see(image)
            assert np.allclose(seen.feeds["pixel_values"], made["pixel_values"], atol=1e-5)
            assert seen.tokens == made["image_grid_thw"].prod() // more.get("merge_size", 1) ** 2
            assert len(seen.feeds["feature_index"]) == seen.tokens


def test_what_stays_the_same_makes_no_tokens() -> None:
    """The first frame is whole; then what changed, one token at least; time is told of each frame."""
    frames = tiny_families.slow_video(3)
    whole, own = _strategy(videos={**VIDEOS, "use_token_compression": False}), _strategy()
    all_of_it, film = whole.watch(frames), own.watch(frames)
    counts = [len(run["feature_index"]) for run in film.runs]
    one = all_of_it.tokens // 4
    assert counts[0] == counts[3] == one
    assert 1 <= counts[1] < one
    assert counts[2] == 1
    assert film.tokens == sum(counts) == int(film.told["video_compression_mask"].sum())
    steps = [f"Time {2 * step:.1f}s:{'<v>' * count}" for step, count in enumerate(counts)]
    assert film.text == ",".join(steps)
    assert own.watch(Frames.flicker((56, 40), 5)).tokens == whole.watch(Frames.flicker((56, 40), 5)).tokens


def test_a_change_is_more_than_a_tenth_of_a_level() -> None:
    """Of a token's prepared pixels in the mean, times 255: patches of a token are looked at together."""
    before = np.zeros((4, 10), np.float32)
    for level, kept in ((0.09, [True, False]), (0.11, [True, True]), (0.0, [True, False])):
        now = before.copy()
        now[2:] += level / 255
        now[:2] += 1 if level else 0
        assert changes([before, now], 2)[1].tolist() == kept


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    frames=st.integers(1, 768),
    least=st.integers(1, 200_000),
    most=st.integers(1, 2_000_000),
)
def test_plans_count_no_fewer_than_any_clip_takes(
    height: int, width: int, frames: int, least: int, most: int
) -> None:
    """The bound for a clip of any size is that of each size, or more."""
    assume(max(height, width) <= 200 * min(height, width))  # strips are refused
    facts = ModelFacts(CONFIG, None, {"size": {"shortest_edge": least, "longest_edge": most}})
    counted = facts.visual_tokens(facts.workload(video_frames=frames, image_size=(height, width)))
    assert frames <= counted <= facts.most_film_tokens(frames)


def test_frames_that_share_patches_are_refused() -> None:
    """This tower sees one frame at a time."""
    with pytest.raises(InputError, match="temporal_patch_size = 2"):
        _strategy(videos={**VIDEOS, "temporal_patch_size": 2})
