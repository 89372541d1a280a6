"""Frames of a clip that is a folder of pictures, in the order of their names: 00001.jpg, 00002.jpg, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from topovlm.errors import InputError, explain
from topovlm.videos.frames import Frames
from topovlm.videos.rules import FrameRule
from topovlm.videos.span import Span

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png")
_FIRST = 1


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def chosen_pictures(
    names: Iterable[str],
    load: Callable[[str], Image],
    *,
    rate: float,
    rule: FrameRule,
    span: Span | None,
    clip: str,
) -> Frames:
    """The pictures among `names` that the rule chooses, `rate` of them a second; each is loaded once.

    Raises `InputError` naming the clip where there are none, or of several sizes.
    """
    found = sorted(filter(is_picture, names))
    if not found:
        raise InputError(explain("video", clip, "holds no picture", f"Known are {', '.join(SUFFIXES)}"))
    shown = span.places(len(found), rate, clip, first=_FIRST) if span else range(len(found))
    indices = rule.indices(len(shown), rate)
    loaded = {index: load(found[shown[index]]) for index in dict.fromkeys(indices)}
    return Frames.chosen(tuple(loaded[index] for index in indices), indices, rate, len(shown), clip)
