"""Frames of a video at their own size, some to a patch, and what the prompt says of their time (Qwen-VL).

Qwen2.5-VL's positions count seconds, Qwen3-VL writes them between the frames as words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families import canvases
from topovlm.records import Strict
from topovlm.runtime.pictures.seen import Film
from topovlm.runtime.pictures.source import Source
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD, Finish, resized
from topovlm.videos.frames import Frames

_FIELD = "video_preprocessor_config.json"
Channels = tuple[float, float, float]


class Films(Strict, frozen=True, kw_only=True):
    """What a family does with videos, as its record says it (`tokens.videos`).

    `min_pixels`, `max_pixels`: where its file states none; `together`: they hold for all frames, not each;
    `divided`: the upper one is shared in equal parts. `clock`: where time is told: in no way, in positions,
    or in words before each step. `merge`: patches along one side of a token where the file states none; 0: as
    in pictures. `sifts`: what stays the same from frame to frame makes no tokens (`pictures.sifted`).
    """

    min_pixels: int
    max_pixels: int
    together: bool = False
    divided: bool = False
    merge: int = 0
    sifts: bool = False
    clock: Literal["none", "positions", "words"] = "none"


@dataclass(frozen=True)
class Reel:
    """`least`, `most`: bounds in px. `pace`: positions a second. `opens`, `closes`: around the tokens of each
    step, where time is told in words.
    """

    films: Films
    placeholder: str
    finish: Finish
    resample: int
    least: int
    most: int
    resize: bool
    pace: float
    opens: str
    closes: str

    def shown(self, frames: Frames, factor: int, deep: int) -> list[np.ndarray]:
        """float32 `[3, H, W]` of each frame, the last one repeated until `deep` of them share every patch."""
        width, height = frames.size
        size = (height, width)
        if self.resize:
            size = self._size(height, width, factor, len(frames.pictures), deep)
        elif any(side % factor for side in size):
            rule = f"must be multiples of {factor} px: this video processor does not resize"
            raise InputError(explain("frames", f"{height}x{width}", rule, "Set do_resize to true"))
        shown = [self.finish(np.asarray(resized(one, size, self.resample))) for one in frames.pictures]
        return [*shown, *[shown[-1]] * (-len(shown) % deep)]

    def _size(self, height: int, width: int, factor: int, count: int, deep: int) -> canvases.Size:
        if not self.films.together:
            most = canvases.of_each(self.most, count) if self.films.divided else self.most
            return canvases.smart_resize(height, width, factor, self.least, most)
        return canvases.film_resize(height, width, factor, self.least, self.most, frames=count, deep=deep)

    def film(
        self, frames: Frames, runs: tuple[dict[str, np.ndarray], ...], rows: int, columns: int, deep: int
    ) -> Film:
        """`rows`, `columns`: of the tokens of one run."""
        one, steps = rows * columns, len(runs)
        if self.films.clock != "words":
            # In single precision, as transformers multiplies them.
            pace = np.float32(self.pace) * np.float32(_step_seconds(frames, deep)) if self.pace else 1.0
            text = self.placeholder * (one * steps)
            return Film(runs, one * steps, text, ((steps, rows, columns),), float(pace))
        inside = self.opens + self.placeholder * one + self.closes
        text = "".join(f"<{second:.1f} seconds>{inside}" for second in _middles(frames, deep))
        return Film(runs, one * steps, text, ((1, rows, columns),) * steps)


def _step_seconds(frames: Frames, deep: int) -> float:
    """Seconds from one step to the next, at the mean rate of the chosen frames."""
    return deep / (len(frames.pictures) / frames.total * frames.fps)


def _middles(frames: Frames, deep: int) -> list[float]:
    """Seconds of the middle of each step."""
    seconds = list(frames.seconds)
    seconds += [seconds[-1]] * (-len(seconds) % deep)
    return [(seconds[k] + seconds[k + deep - 1]) / 2 for k in range(0, len(seconds), deep)]


def reel_of(
    source: Source, films: Films | None, usual: tuple[Channels, Channels] = (CLIP_MEAN, CLIP_STD)
) -> Reel | None:
    """None for a family that takes no videos. `usual`: mean and deviation where the file states none.

    Raises `InputError` for steps that it does not do.
    """
    if films is None:
        return None
    size: Any = source.film("size", {})
    words = films.clock == "words"
    return Reel(
        films=films,
        placeholder=source.film_token(),
        finish=Finish.from_config(source.videos, _FIELD, *usual),
        resample=int(source.film("resample", Image.Resampling.BICUBIC)),
        least=int(source.film("min_pixels") or size.get("shortest_edge") or films.min_pixels),
        most=int(source.film("max_pixels") or size.get("longest_edge") or films.max_pixels),
        resize=bool(source.film("do_resize", True)),
        pace=float(source.vision("tokens_per_second", 0)) if films.clock == "positions" else 0.0,
        opens=source.token(int(source.whole("vision_start_token_id"))) if words else "",
        closes=source.token(int(source.whole("vision_end_token_id"))) if words else "",
    )
