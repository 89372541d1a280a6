"""Which frames of a clip are shown: the conventions in use, as pure functions of how many there are.

| name | frame i of n out of N, from 0 | who |
| --- | --- | --- |
| `linspace` | `linspace(0, N - 1, n)`, fractions cut off | LLaVA, Video-LLaVA, lmms-eval 0.7.3 |
| `floor` | `i N // n` | transformers 5 (`default_sample_indices_fn`) |
| `middle` | `(i + 0.5) (N - 1) / n`, halves rounded up | VideoLLaMA2 (`mm_utils.frame_sample`) |
| `inner` | `int((i + 1) N / (n + 1))` | VLMEvalKit |
| `fps` | n as many seconds times the rate, even, 4 to 768; every N/n-th | Qwen2-VL, Qwen2.5-VL, VideoLLaMA3 |
| `fps-linspace` | the same n, odd ones too; `linspace(0, N - 1, n)` rounded | Qwen3-VL |

Of a clip with fewer frames than are asked for, the first four repeat some (transformers refuses it); the last
two show each at most once, but one at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.workload import MOST_FRAMES

_LEAST_BY_RATE = 4
Indices = tuple[int, ...]


def linspace(total: int, number: int) -> Indices:
    return tuple(np.linspace(0, total - 1, number).astype(int).tolist())


def floor(total: int, number: int) -> Indices:
    return tuple(i * total // number for i in range(number))


def middle(total: int, number: int) -> Indices:
    # Rounded as the authors do: to even, after what lifts every half above itself.
    centres = (np.arange(number) + 0.5) * (float(total - 1) / number)
    return tuple(np.round(centres + 1e-6).astype(int).tolist())


def inner(total: int, number: int) -> Indices:
    step = total / (number + 1)
    return tuple(int((i + 1) * step) for i in range(number))


def by_rate(total: int, clip_fps: float, rate: float) -> Indices:
    """An even number where there are two frames: a patch of these models is two frames deep."""
    most = min(MOST_FRAMES, total) // 2 * 2
    wanted = min(max(total / clip_fps * rate, _LEAST_BY_RATE), most, total)
    number = max(1, math.floor(wanted / 2) * 2)
    return tuple(np.arange(0, total, total / number).astype(int)[:number].tolist())


def by_rate_linspace(total: int, clip_fps: float, rate: float) -> Indices:
    number = min(max(int(total / clip_fps * rate), _LEAST_BY_RATE), MOST_FRAMES, total)
    return tuple(np.linspace(0, total - 1, number).round().astype(int).tolist())


_BY_NUMBER: dict[str, Callable[[int, int], Indices]] = {
    "linspace": linspace,
    "floor": floor,
    "middle": middle,
    "inner": inner,
}
_BY_RATE: dict[str, Callable[[int, float, float], Indices]] = {
    "fps": by_rate,
    "fps-linspace": by_rate_linspace,
}
NAMES = (*_BY_NUMBER, *_BY_RATE)


@dataclass(frozen=True)
class FrameRule:
    """`linspace:32`: the rule's name, and how many frames, or (`fps:2`) how many a second.

    Raises `InputError` for a name that is not known and a number out of bounds.
    """

    name: str = "linspace"
    number: float = 8

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            rule = "is no rule for choosing frames"
            raise InputError(explain("frames", self.name, rule, f"Known are {', '.join(NAMES)}"))
        whole = self.name in _BY_RATE or float(self.number).is_integer()
        if not whole or not (0 if self.name in _BY_RATE else 1) <= self.number <= MOST_FRAMES:
            rule = f"must be a whole number from 1 to {MOST_FRAMES}"
            if self.name in _BY_RATE:
                rule = f"must be a number of frames a second above 0, to {MOST_FRAMES}"
            raise InputError(explain("frames", self.number, rule))
        if self.number == 0:
            raise InputError(explain("frames", self.number, "no frame a second is no video"))

    @classmethod
    def parse(cls, text: str) -> FrameRule:
        """`NAME:NUMBER`, or a number alone, which is `linspace`. Raises `InputError`."""
        name, colon, number = text.strip().rpartition(":")
        try:
            return cls(name if colon else "linspace", float(number))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            rule, remedy = "is no rule for choosing frames", "Write linspace:8, or fps:2"
            raise InputError(explain("frames", text, rule, remedy)) from None

    def __str__(self) -> str:
        return f"{self.name}:{self.number:g}"

    @property
    def most(self) -> int:
        """Frames that it chooses of any clip, at most."""
        return int(self.number) if self.name in _BY_NUMBER else MOST_FRAMES

    def indices(self, total: int, clip_fps: float) -> Indices:
        """Places from 0, never falling, in a clip of `total` >= 1 frames, `clip_fps` > 0 of them a second."""
        if self.name in _BY_NUMBER:
            return _BY_NUMBER[self.name](total, int(self.number))
        return _BY_RATE[self.name](total, clip_fps, self.number)


USUAL = FrameRule()
