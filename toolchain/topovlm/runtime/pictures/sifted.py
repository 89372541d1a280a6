"""Pictures at their own size, and of frames only what changes (VideoLLaMA3).

The tower's features are averaged over squares of patches, in frames of videos larger ones than in pictures;
the graph is told which patches make a token (`towers.averaged`). What stays as it was in the frame before
makes no token, so the length of a prompt depends on what the clip shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.runtime.pictures import native
from topovlm.runtime.pictures.films import Films
from topovlm.runtime.pictures.native import Native
from topovlm.runtime.pictures.seen import Film, Seen
from topovlm.runtime.pictures.source import FIELD, Source
from topovlm.videos.frames import Frames

_CHANGED = 0.1  # mean difference of a token's prepared pixels, times 255: more is a change
TAPS = 4


@dataclass(frozen=True)
class Sifted(Native):
    """`film_merge`: as `merge`, of frames. `sifts`: whether tokens that stay the same are left out."""

    film_merge: int = 1
    sifts: bool = True

    def see(self, picture: Image.Image) -> Seen:
        """As `Native`, and feature_index int64, feature_weight float32 `[tokens, 4]`."""
        seen = super().see(picture)
        return Seen({**seen.feeds, **averages(np.arange(seen.tokens), self.merge)}, seen.tokens, seen.grid)

    def watch(self, frames: Frames) -> Film:
        """Each frame a run, told which of its tokens are kept."""
        if self.reel is None:
            return super().watch(frames)
        filmed = replace(self, merge=self.film_merge)
        shown = self.reel.shown(frames, self.patch * self.film_merge, self.frames)
        runs = [filmed.feeds([pixels]) for pixels in shown]
        kept = changes([run["pixel_values"] for run in runs], self.film_merge**2, sift=self.sifts)
        for run, mask in zip(runs, kept, strict=True):
            run.update(averages(np.flatnonzero(mask), self.film_merge))
        rows, columns = (side // self.patch // self.film_merge for side in shown[0].shape[1:])
        counts = [int(mask.sum()) for mask in kept]
        steps = (
            f"Time {second:.1f}s:{self.film_placeholder * count}"
            for second, count in zip(frames.seconds, counts, strict=True)
        )
        told = {
            "video_merge_sizes": np.asarray([self.film_merge]),
            "video_compression_mask": np.concatenate(kept),
        }
        grids = ((1, rows, columns),) * len(runs)
        return Film(tuple(runs), sum(counts), ",".join(steps), grids, told=told)


def averages(tokens: np.ndarray, merge: int) -> dict[str, np.ndarray]:
    """Which patches make each of `tokens`, and in which shares: `[tokens, 4]`.

    What bilinear scaling by `1 / merge` reads: the four patches in the middle of a block, or the one there.
    """
    middle = ((merge - 1) // 2, merge // 2)
    inside = np.asarray([row * merge + column for row in middle for column in middle])
    shares = np.full(TAPS, 0.25) if merge % 2 == 0 else np.eye(TAPS)[0]
    return {
        "feature_index": (tokens[:, None] * merge**2 + inside).astype(np.int64),
        "feature_weight": np.tile(shares.astype(np.float32), (len(tokens), 1)),
    }


def changes(frames: Sequence[np.ndarray], patches: int, *, sift: bool = True) -> list[np.ndarray]:
    """bool `[tokens]` of each frame: whether a token is kept. All of the first, one at least of any other.

    `frames`: float32 `[patches, values]` each; `patches`: that make a token.
    """
    pixels = [frame.reshape(len(frame) // patches, -1) for frame in frames]
    masks = [np.ones(len(pixels[0]), bool)]
    for before, now in itertools.pairwise(pixels):
        mask = np.abs(now - before).mean(-1) * 255 > _CHANGED if sift else masks[0].copy()
        mask[0] |= not mask.any()
        masks.append(mask)
    return masks


def build(source: Source) -> Sifted:
    """Raises `InputError` for steps that it does not do."""
    plain, films = native.build(source), source.film_rules(Films)
    merge = films.merge if films else plain.merge
    for field, stated in ((FIELD, source.image), ("video_preprocessor_config.json", source.film)):
        if stated("temporal_patch_size", 1) != 1:
            rule = "must be 1: this model sees every frame by itself"
            raise InputError(explain(f"{field}: temporal_patch_size", stated("temporal_patch_size"), rule))
    return Sifted(
        **vars(plain),
        film_merge=int(source.film("merge_size", merge)),
        sifts=bool(films and films.sifts and source.film("use_token_compression", True)),
    )
