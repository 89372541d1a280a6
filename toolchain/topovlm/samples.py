"""Pictures and videos with a question and, where known, an answer: what calibration and evaluation run on.

Those given as paths are opened when they are needed, not before: a data set may be larger than memory.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm import json_text
from topovlm.errors import InputError, explain, located
from topovlm.linked import components
from topovlm.plain_files import MEBIBYTE, Stored, decoded, open_plain
from topovlm.videos.clip import Clip
from topovlm.videos.frames import Frames
from topovlm.videos.rules import USUAL, FrameRule

if TYPE_CHECKING:
    from PIL.Image import Image

_FIELDS = {
    "image", "video", "frames", "prompt", "answer", "category", "family", "metric", "chance", "id", "group",
}  # fmt: skip
_MOST_SHOWN = 60  # characters
_MOST_LINE_BYTES = 4 * MEBIBYTE


@dataclass(frozen=True)
class Sample:
    """One question about zero or more pictures and videos.

    `category` is the kind of question, for accuracy by category. `chance` is the expected score of a guess;
    `group` names what shares a picture (for paired intervals). `pixels`: `pictures.pixel_digest` of those
    that are files and `Frames.digest` of clips, once they were looked at.
    """

    id: str
    images: tuple[Image | Path | Stored, ...]
    prompt: str
    answer: str | None = None
    category: str = "user"
    metric: str = "exact"
    chance: float = 0.0
    group: str = ""
    source: str = field(default="", compare=False)
    pixels: tuple[str, ...] = field(default=(), compare=False)
    videos: tuple[Clip | Frames, ...] = ()

    @property
    def cluster(self) -> str:
        """What it shares with its group, or has for itself."""
        return self.group or self.id

    def load_images(self) -> list[Image]:
        """The pictures as RGB, decoded now. Raises `InputError` naming the sample when one is broken."""
        return [_open_rgb(image, self.source or self.id) for image in self.images]

    def load_videos(self) -> list[Frames]:
        """The chosen frames of each video, decoded now. Raises `InputError` naming the sample."""
        return [_shown_frames(video, self.source or self.id) for video in self.videos]

    def visuals(self) -> list[Image | Clip | Frames]:
        """All that a runtime is shown, in that order: pictures, decoded now, and videos, which it decodes one
        after the other."""
        return [*self.load_images(), *self.videos]


def by_group(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Samples of each group, by `Sample.cluster`, in the order of the data."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.cluster, []).append(sample)
    return groups


def _open_rgb(image: Image | Path | Stored, where: str) -> Image:
    """As the runtime opens it: upright by its EXIF tag, transparency laid on white."""
    from topovlm.pictures import load_image, to_rgb

    if not isinstance(image, (Path, Stored)):
        return to_rgb(image)
    try:
        return load_image(image)
    except InputError as error:
        raise InputError(located(error, where)) from None


def _shown_frames(video: Clip | Frames, where: str) -> Frames:
    if isinstance(video, Frames):
        return video
    try:
        return video.frames()
    except InputError as error:
        raise InputError(located(error, where)) from None


def _clip_digest(clip: Clip, where: str) -> str:
    try:
        return clip.digest
    except InputError as error:
        raise InputError(located(error, where)) from None


def with_pixels(sample: Sample, known: dict[Path | Stored | Clip, str] | None = None) -> Sample:
    """The same, every picture file and clip of it decoded once. Raises `InputError` naming the sample.

    `known`: digests by path of files that were read just now, which is added to. One that was looked at
    before comes back as it is.
    """
    if sample.pixels:
        return sample
    from topovlm.pictures import pixel_digest

    known = {} if known is None else known
    digests = []
    for image in sample.images:
        if isinstance(image, (Path, Stored)):
            if image not in known:
                known[image] = pixel_digest(_open_rgb(image, sample.source or sample.id))
            digests.append(known[image])
    for video in sample.videos:
        if isinstance(video, Clip):
            if video not in known:
                known[video] = _clip_digest(video, sample.source or sample.id)
            digests.append(known[video])
    return replace(sample, pixels=tuple(digests))


def read_jsonl(path: Path | str, *, check_images: bool = True, frames: FrameRule = USUAL) -> list[Sample]:
    """One sample per line: `{"image": str | [str], "prompt": str, "answer"?, "category"?, "metric"?, ...}`.

    `video` is as `image`; `frames` says which of it are shown (`linspace:16`, see `videos.rules`), else the
    argument does. `family` is an older name of `category`. Relative pictures are sought beside the file.
    Samples that share a picture (its pixels, however it is spelled, copied or stored), a clip, a stated group
    or a question without either come back with one `group`. Raises `InputError` naming file and line for bad
    JSON, a missing field, a wrong type, and (with `check_images`) a missing or broken picture or video.
    """
    path = Path(path)
    samples: list[Sample] = []
    known: dict[Path | Stored | Clip, str] = {}
    for number, line in _lines(path):
        sample = _parse_line(line, path, number, frames)
        samples.append(with_pixels(sample, known) if check_images else sample)
    if not samples:
        raise InputError(explain("--data", str(path), "holds no samples", "Write one JSON object per line"))
    seen: dict[str, str] = {}
    for sample in samples:
        if sample.id in seen:
            raise InputError(explain("id", sample.id, f"is already at {seen[sample.id]}").at(sample.source))
        seen[sample.id] = sample.source
    return _grouped(samples)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of every line that is not blank; only a newline ends one: strings may hold U+2028."""
    with open_plain(path, field="--data") as file:
        number = 0
        while raw := file.readline(_MOST_LINE_BYTES + 1):
            number += 1
            if len(raw) > _MOST_LINE_BYTES:
                rule = f"has a line {number} of more than {_MOST_LINE_BYTES // MEBIBYTE} MiB"
                raise InputError(explain("--data", str(path), rule, "Write one JSON object per line"))
            name = f"{path}:{number}"
            line = decoded(raw, field="--data", name=name, remedy="Give a JSONL file", mark=number == 1)
            if line.strip():
                yield number, line


def _grouped(samples: Sequence[Sample]) -> list[Sample]:
    """The same, each named by its component: a stated group in it, else its first pictures as spelled."""
    firsts = components([_links(sample) for sample in samples])
    sizes = Counter(firsts)
    stated: dict[int, str] = {}
    for first, sample in zip(firsts, samples, strict=True):
        stated[first] = stated.get(first, "") or sample.group
    names: dict[int, str] = {}
    used: set[str] = set()
    for first, group in stated.items():
        name = group
        if not group and (samples[first].images or samples[first].videos or sizes[first] > 1):
            name = _spelled(samples[first]) or f"question {samples[first].id}"
        number = 1
        while name and name in used:  # a stated group that is called as another picture is spelled
            number += 1
            name = f"{group or _spelled(samples[first])} ({number})"
        names[first] = name
        used.add(name)
    return [replace(sample, group=names[first]) for first, sample in zip(firsts, samples, strict=True)]


def _links(sample: Sample) -> list[str]:
    """What ties a sample to others: a stated group, its pictures' pixels, else where they really lie."""
    stated = [f"group {sample.group}"] if sample.group else []
    clips = [f"clip {os.path.realpath(video.file)}" for video in sample.videos if isinstance(video, Clip)]
    if not sample.images and not sample.videos:
        return [*stated, f"prompt {sample.prompt}"]
    files = [os.path.realpath(image) for image in sample.images if isinstance(image, Path)]
    return [*stated, *clips, *(f"picture {one}" for one in sample.pixels or files)]


def _spelled(sample: Sample) -> str:
    """The pictures' paths, from the folder of their file where they are in it."""
    folder = Path(sample.source.rpartition(":")[0]).parent
    files = [image for image in sample.images if isinstance(image, Path)]
    files += [video.file for video in sample.videos if isinstance(video, Clip)]
    return "|".join(str(file.relative_to(folder) if file.is_relative_to(folder) else file) for file in files)


def _parse_line(line: str, path: Path, number: int, frames: FrameRule) -> Sample:
    where = f"{path}:{number}"
    try:
        record = json_text.parse(line, unique_keys=True)
    except json_text.NotJsonError as error:
        raise InputError(explain("line", _shown(line), str(error)).at(where)) from None
    if not isinstance(record, dict):
        rule = f"a JSON object is needed, this is a {type(record).__name__}"
        raise InputError(explain("line", _shown(line), rule).at(where))
    unknown = sorted(set(record) - _FIELDS)
    if unknown:
        remedy = f"Known are {', '.join(sorted(_FIELDS))}"
        raise InputError(explain("unknown field", unknown[0], "no sample has it", remedy).at(where))
    return Sample(
        id=_text(record, "id", where, default=f"line-{number}"),
        images=tuple(path.parent / image for image in _files(record, "image", where)),
        prompt=_text(record, "prompt", where),
        answer=_text(record, "answer", where) if record.get("answer") is not None else None,
        category=_category(record, where),
        metric=_text(record, "metric", where, default="exact"),
        chance=_chance(record, where),
        group=_text(record, "group", where, default=""),
        source=where,
        videos=_clips(record, path.parent, where, frames),
    )


def _shown(line: str) -> str:
    """The beginning of a line, for a message."""
    text = line.strip()
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _category(record: Mapping[str, object], where: str) -> str:
    if "category" in record and "family" in record:
        rule = "is the older name of category: give one of them"
        raise InputError(explain("family", record["family"], rule).at(where))
    return _text(record, "family" if "family" in record else "category", where, default="user")


def _text(record: Mapping[str, object], name: str, where: str, default: str | None = None) -> str:
    value = record.get(name, default)
    if value is None:
        raise InputError(explain(name, None, "is missing").at(where))
    if not isinstance(value, str):
        raise InputError(explain(name, value, "must be a string").at(where))
    if name == "prompt" and not value.strip():
        raise InputError(explain(name, value, "is empty").at(where))
    return value


def _files(record: Mapping[str, object], name: str, where: str) -> list[str]:
    value = record.get(name, [])
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list) or not all(isinstance(file, str) and file for file in files):
        raise InputError(explain(name, value, "must be a path or a list of paths").at(where))
    return files


def _clips(record: Mapping[str, object], folder: Path, where: str, frames: FrameRule) -> tuple[Clip, ...]:
    stated = _text(record, "frames", where, default="")
    try:
        rule = FrameRule.parse(stated) if stated else frames
    except InputError as error:
        raise InputError(located(error, where)) from None
    return tuple(Clip(folder / video, rule) for video in _files(record, "video", where))


def _chance(record: Mapping[str, object], where: str) -> float:
    value = record.get("chance", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise InputError(explain("chance", value, "must be a number from 0 to below 1").at(where))
    return float(value)
