"""Benchmarks of videos for models of pictures: a few frames of each clip, shown as several pictures."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.samples import Sample
from topovlm.tasks.public.task import PublicTask, whole_clusters
from topovlm.tasks.public.videos import Clip, Clips

SHOWN = 4  # frames: as many as the small benchmark's clips have


class FramesTask(PublicTask):
    """As `PublicTask`, which refuses videos: evenly spaced frames from the first to the last, in order."""

    @property
    def source(self) -> str:
        return f"{super().source}; of each clip {SHOWN} frames as pictures"

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        """Of all questions: `split` is `all`. A clip that cannot be shown leaves its questions out."""
        if split != "all":
            raise InputError(explain("split", split, "is not all"))
        clips = Clips(self.record, self.dataset.place.root)
        shown = []
        for sample in whole_clusters(self._asked(), count, seed):
            try:
                frames = frames_of(clips.find(self.dataset.items[self._items[sample.id]]))
            except InputError as error:
                self._broken[sample.id] = str(error)
            else:
                shown.append(replace(sample, images=tuple(evenly(frames, SHOWN))))
        if not shown:
            first = next(iter(self._broken.values()))
            raise InputError(explain("--task", self.name, f"none of its clips can be shown: {first}"))
        return shown


def evenly(frames: Sequence[Image.Image], count: int) -> list[Image.Image]:
    """So many of them, from the first to the last; of fewer some are there twice."""
    return [frames[int(place)] for place in np.linspace(0, len(frames) - 1, count)]


def frames_of(clip: Clip) -> list[Image.Image]:
    """All frames of a clip of the small benchmark. Raises `InputError` naming the clip."""
    name = clip.member or clip.path.name
    try:
        with zipfile.ZipFile(clip.path) if clip.member else clip.path.open("rb") as file:
            data = file.read(clip.member) if isinstance(file, zipfile.ZipFile) else file.read()
        with Image.open(io.BytesIO(data)) as film:
            count, frames = getattr(film, "n_frames", 1), []
            for number in range(count):
                film.seek(number)
                frames.append(film.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(explain("video", name, f"cannot be decoded ({error})")) from None
    return frames
