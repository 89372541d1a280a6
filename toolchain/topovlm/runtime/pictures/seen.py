"""What a strategy makes of one picture or video, and what it can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from topovlm.videos.frames import Frames

Grid = tuple[int, int, int]
FILM_PIXELS = "pixel_values_videos"  # input of a vision graph that sees frames by another tower


@dataclass(frozen=True)
class Seen:
    """One picture, prepared.

    `feeds`: inputs of the vision graph. `tokens`: image tokens that it takes in the prompt. `grid`: (frames,
    rows, columns) of those tokens, where positions count them. `tiles`: (rows, columns) of its tiles, where
    the prompt tells.
    """

    feeds: dict[str, np.ndarray]
    tokens: int
    grid: Grid | None = None
    tiles: tuple[int, int] | None = None


@dataclass(frozen=True)
class Film:
    """One video, prepared: frames, or pairs of them, that the vision graph sees one after the other.

    `text`: what its placeholder gives way to. `grids`: of the tokens that stand side by side in it, where
    positions count them; `pace`: positions from one step in time to the next. `told`: what transformers'
    model is told beside pixels and grids, by its names.
    """

    runs: tuple[dict[str, np.ndarray], ...]
    tokens: int
    text: str
    grids: tuple[Grid, ...] = ()
    pace: float = 1.0
    told: Mapping[str, np.ndarray] = field(default_factory=dict)


class Strategy(Protocol):
    """`joins`: the feeds of several pictures may be joined along their first axis and run at once.

    `placeholder`: the text in a rendered chat template that one picture replaces; `film_placeholder`: that
    one video replaces, empty where the family takes none.
    """

    joins: bool

    @property
    def placeholder(self) -> str: ...

    @property
    def film_placeholder(self) -> str: ...

    def see(self, picture: Image.Image) -> Seen:
        """One picture of any mode, alone in its prompt. Raises `InputError` where its family refuses it."""

    def see_all(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        """The pictures of one prompt, in order: a family may treat several other than one."""

    def watch(self, frames: Frames) -> Film:
        """One video. Raises `InputError` where the family takes none, or not this one."""

    def expand(self, seen: Seen) -> str:
        """What is written in place of its placeholder."""

    def whole(self, prompt: str, seens: Sequence[Seen], films: Sequence[Film] = ()) -> str:
        """The rendered prompt with its pictures and videos in place: the text that is tokenised.

        Raises `InputError` when the prompt does not hold one placeholder for each.
        """
