"""Prompts on their way to a board: what is unpacked there is what was packed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from topovlm.travel.prompts import Prompt, pack, unpack

WORDS = Prompt(ids=np.arange(5), positions=np.arange(5), next_position=5)
PICTURES = Prompt(
    ids=np.array([7, 1, 1, 1, 8]),
    positions=np.arange(15).reshape(3, 5),
    next_position=9,
    pictures=(
        {"pixel_values": np.ones((4, 6), np.float32), "position_ids": np.zeros((4, 2), np.int64)},
        {"pixel_values": np.zeros((8, 6), np.float32), "pixel_attention_mask": np.ones((8, 2, 2), bool)},
    ),
    block_ids=np.array([0, 1, 1, 2, 0]),
    image_token_id=1,
)


def _same(one: Prompt, other: Prompt) -> None:
    for name in ("ids", "positions", "block_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    assert (one.next_position, one.image_token_id) == (other.next_position, other.image_token_id)
    assert [set(run) for run in one.pictures] == [set(run) for run in other.pictures]
    for run, read in zip(one.pictures, other.pictures, strict=True):
        for name, value in run.items():
            np.testing.assert_array_equal(value, read[name], strict=True)


def test_many_prompts_through_one_file(tmp_path: Path) -> None:
    """In order, with and without pictures, types and shapes kept; also where there are more than ten."""
    prompts = [PICTURES, WORDS] * 6
    file = tmp_path / "prompts.npz"
    np.savez(file, **pack(prompts))
    with np.load(file) as arrays:
        found = unpack(dict(arrays))
    assert len(found) == 12
    for one, other in zip(prompts, found, strict=True):
        _same(one, other)


def test_places_of_pictures_are_counted() -> None:
    """A prompt without an image token has none, whatever its ids are."""
    assert (PICTURES.picture_tokens, WORDS.picture_tokens) == (3, 0)
