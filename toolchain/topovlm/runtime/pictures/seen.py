"""What a strategy makes of one picture, and what it can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Seen:
    """One picture, prepared.

    `feeds`: inputs of the vision graph. `tokens`: image tokens that it takes in the prompt. `grid`: (frames,
    rows, columns) of those tokens, where positions count them. `tiles`: (rows, columns) of its tiles, where
    the prompt tells.
    """

    feeds: dict[str, np.ndarray]
    tokens: int
    grid: tuple[int, int, int] | None = None
    tiles: tuple[int, int] | None = None


class Strategy(Protocol):
    """`joins`: the feeds of several pictures may be joined along their first axis and run at once.

    `placeholder`: the text in a rendered chat template that one picture replaces.
    """

    joins: bool

    @property
    def placeholder(self) -> str: ...

    def see(self, picture: Image.Image) -> Seen:
        """One picture of any mode, alone in its prompt. Raises `InputError` where its family refuses it."""

    def see_all(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        """The pictures of one prompt, in order: a family may treat several other than one."""

    def expand(self, seen: Seen) -> str:
        """What is written in place of its placeholder."""

    def whole(self, prompt: str, seens: Sequence[Seen]) -> str:
        """The rendered prompt with its pictures in place: the text that is tokenised.

        Raises `InputError` when the prompt does not hold one placeholder per picture.
        """
