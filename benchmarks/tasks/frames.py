"""Benchmarks of videos for models of pictures: a few frames of each clip, shown as several pictures."""

from __future__ import annotations

from dataclasses import replace

from topovlm.samples import Sample
from topovlm.tasks.public.task import PublicTask
from topovlm.videos.clip import Clip
from topovlm.videos.rules import FrameRule

SHOWN = 4  # frames
_RULE = FrameRule.parse(f"linspace:{SHOWN}")


class FramesTask(PublicTask):
    """As `PublicTask`, with evenly spaced frames from the first to the last, in order, in place of clips."""

    @property
    def source(self) -> str:
        return f"{super().source}; of each clip {SHOWN} frames as pictures"

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        return [_in_pictures(sample) for sample in super().samples(split, count, seed)]


def _in_pictures(sample: Sample) -> Sample:
    frames = [
        picture
        for clip in sample.videos
        if isinstance(clip, Clip)
        for picture in replace(clip, rule=_RULE).frames().pictures
    ]
    return replace(sample, images=(*sample.images, *frames), videos=(), pixels=())
