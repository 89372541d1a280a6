"""A prompt as arrays: made once on the host, run here or on a board. Python >= 3.8, numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Prompt:
    """What the graphs are given for one prompt.

    `ids` int64 `[S]`; `pictures`: inputs of the vision graph, one mapping per run of it; its rows go, in
    order, to the places of `image_token_id`. `positions` int64 `[S]` or `[3, S]`; `next_position`: of the
    first answer token. `block_ids` int64 `[S]`, where tokens see each other whole (0: none).
    """

    ids: np.ndarray
    positions: np.ndarray
    next_position: int
    pictures: Sequence[Mapping[str, np.ndarray]] = field(default=())
    block_ids: np.ndarray | None = None
    image_token_id: int | None = None

    @property
    def picture_tokens(self) -> int:
        """Places of pictures in the prompt."""
        return 0 if self.image_token_id is None else int((self.ids == self.image_token_id).sum())

    @property
    def picture_bytes(self) -> int:
        """Of all inputs of the vision graph."""
        return sum(value.nbytes for feeds in self.pictures for value in feeds.values())


def pack(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """All prompts as named arrays, for one `.npz` file."""
    arrays: dict[str, Any] = {}
    for index, prompt in enumerate(prompts):
        arrays[f"{index}/ids"] = prompt.ids
        arrays[f"{index}/positions"] = prompt.positions
        token = -1 if prompt.image_token_id is None else prompt.image_token_id
        arrays[f"{index}/facts"] = np.asarray([prompt.next_position, token, len(prompt.pictures)])
        if prompt.block_ids is not None:
            arrays[f"{index}/block_ids"] = prompt.block_ids
        for run, feeds in enumerate(prompt.pictures):
            for name, value in feeds.items():
                arrays[f"{index}/picture/{run}/{name}"] = value
    return arrays


def unpack(arrays: Mapping[str, Any]) -> list[Prompt]:
    """What `pack` was given."""
    count = 1 + max(int(name.split("/")[0]) for name in arrays)
    prompts = []
    for index in range(count):
        next_position, token, runs = (int(value) for value in arrays[f"{index}/facts"])
        pictures: list[dict[str, np.ndarray]] = [{} for _ in range(runs)]
        for name, value in arrays.items():
            parts = name.split("/")
            if parts[:2] == [str(index), "picture"]:
                pictures[int(parts[2])][parts[3]] = value
        prompts.append(
            Prompt(
                ids=arrays[f"{index}/ids"],
                positions=arrays[f"{index}/positions"],
                next_position=next_position,
                pictures=pictures,
                block_ids=arrays.get(f"{index}/block_ids"),
                image_token_id=None if token < 0 else token,
            )
        )
    return prompts
