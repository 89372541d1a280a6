"""Held-out pictures of benchmarks.smol with their questions, as the small benchmark asks them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.smol.makers import MAKERS
from topovlm.reference.scenes import Question, Scene

Row = dict[str, Any]
_OPTIONS = re.compile(r"(?P<question>.+?) A\. (.+?) B\. (.+?) C\. (.+?) D\. (.+)", re.S)


@dataclass(frozen=True)
class Choice:
    """A picture's question with four options; `place` is the right one's."""

    question: str
    options: list[str]
    place: int


def scene_of(rng: np.random.Generator, *names: str) -> Scene:
    return MAKERS[names[int(rng.integers(len(names)))]](rng, "test")


def choices_of(scene: Scene) -> list[Choice]:
    found = []
    for asked in scene.questions:
        match = _OPTIONS.fullmatch(asked.prompt)
        if match:
            options = [match[n].strip() for n in range(2, 6)]
            found.append(Choice(match["question"], options, "ABCD".index(asked.answer)))
    return found


def choice_of(rng: np.random.Generator, *names: str) -> tuple[Scene, Choice]:
    while True:
        scene = scene_of(rng, *names)
        found = choices_of(scene)
        if found:
            return scene, found[0]


def open_question(rng: np.random.Generator, maker: str, *categories: str) -> tuple[Scene, Question]:
    while True:
        scene = scene_of(rng, maker)
        found = [
            one for one in scene.questions if one.category in categories and not _OPTIONS.match(one.prompt)
        ]
        if found:
            return scene, found[int(rng.integers(len(found)))]


def cell_of(scene: Scene) -> Row:
    held = io.BytesIO()
    Image.fromarray(scene.frames[0]).save(held, "PNG")
    return {"bytes": held.getvalue(), "path": None}


def clip_of(scene: Scene) -> bytes:
    """The picture, moving to the right: MP4, ten frames a second."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "12"})
        stream.height, stream.width = scene.frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for step in range(4):
            frame = av.VideoFrame.from_ndarray(np.roll(scene.frames[0], 8 * step, axis=1), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return held.getvalue()
