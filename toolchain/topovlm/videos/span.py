"""A part of a clip, in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from topovlm.errors import InputError, explain


@dataclass(frozen=True)
class Span:
    """From `start_s` to `end_s`, from the clip's beginning on. Raises `InputError` for what is no span."""

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s)):
            raise InputError(explain("seconds of a clip", f"{self}", "must be numbers"))
        if self.end_s < max(0.0, self.start_s):
            raise InputError(explain("seconds of a clip", f"{self}", "end before they begin"))

    def __str__(self) -> str:
        return f"{self.start_s:g} to {self.end_s:g}"

    def places(self, total: int, fps: float, clip: str, *, first: int = 0) -> range:
        """Places from 0 of the frames of `total`: from that nearest to the start to that nearest to the end.

        `first`: the number of the first frame, 0 for videos; pictures in files count from 1. Second t is the
        frame of number `round(t fps)`, as MVBench's authors have it (`get_index` of their `mvbench.ipynb`).
        Raises `InputError` naming the clip where it is over before the span begins.
        """
        begin = max(0, round(self.start_s * fps) - first)
        end = min(round(self.end_s * fps) - first, total - 1)
        if begin >= total:
            rule = f"is over after {total / fps:g} s, and seconds {self} of it are asked about"
            raise InputError(explain("video", clip, rule))
        return range(begin, max(begin, end) + 1)
