"""Prompts that exercise an exported folder: pictures of two sizes, clips, words of two lengths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from topovlm.runtime.prompt import Prompter, prompter_of
from topovlm.samples import Sample
from topovlm.travel.prompts import Prompt
from topovlm.videos.frames import Frames

_WORDS = (
    "What is this?",
    "Name the largest object in the picture, then count the smaller ones from left to right: 1, 2, 3.",
)
_SEED = 20260
_MIRRORED = Image.Transpose.FLIP_LEFT_RIGHT
_SIDES = ((1.0, 1.0), (0.6, 1.3))  # of the model's own picture, height and width
_SMALLER = (1.0, 0.5, 0.25, 0.125)  # where a picture's tokens follow its size


@dataclass(frozen=True)
class Question:
    """One prompt: as a sample for torch and the model's own processor, and as this runtime's arrays."""

    name: str
    sample: Sample
    prompt: Prompt


def make_questions(folder: Path, new_tokens: int, most_tokens: int | None = None) -> list[Question]:
    """One picture with few words, then two of different sizes with more; fewer or smaller ones where the
    context is short, or where a prompt and its answer would pass `most_tokens`.

    Of an exported folder. A model without pictures is asked in words alone; one whose frames go another way
    through the vision graph than pictures sees the second picture as a clip.
    """
    prompter = prompter_of(folder)
    facts = prompter.manifest.facts
    context = min(facts.context_tokens or 1 << 30, most_tokens or 1 << 30)
    rng = np.random.default_rng(_SEED)
    noise = []
    for smaller in _SMALLER:
        sides = [
            tuple(
                max(1, round(side * share * smaller))
                for side, share in zip(facts.picture_size, shares, strict=True)
            )
            for shares in _SIDES
        ]
        noise.append([Image.fromarray(rng.integers(0, 256, (*side, 3), np.uint8)) for side in sides])
    questions = []
    for number, words in enumerate(_WORDS):
        most = number + 1 if prompter.manifest.file.strategy else 0
        questions.append(_fitting(prompter, noise, most, words, context - new_tokens))
    return questions


def _fitting(
    prompter: Prompter, sizes: list[list[Image.Image]], most: int, words: str, context: int
) -> Question:
    """With as many of the last pictures, up to `most`, as the context has room for, then with smaller ones;
    with the smallest one where nothing fits."""
    filmed = int(most == len(_WORDS) and _films_apart(prompter))
    for pictures, count in itertools.product(sizes, range(most, min(1, most) - 1, -1)):
        chosen = pictures[len(pictures) - count :]
        stills, last = tuple(chosen[: count - filmed]), chosen[count - filmed :]
        clips = tuple(Frames.of([picture, picture.transpose(_MIRRORED)]) for picture in last)
        prompt = prompter.prepare((*stills, *clips), words)
        if len(prompt.ids) <= context:
            break
    shown = {"picture": len(stills), "clip": len(clips)}
    told = [
        f"{number} {kind}{'s' * (number != 1)}"
        for kind, number in shown.items()
        if number or kind == "picture"
    ]
    name = ", ".join([*told, f"{len(prompt.ids)} tokens"])
    return Question(name, Sample(id=name, images=stills, prompt=words, videos=clips), prompt)


def _films_apart(prompter: Prompter) -> bool:
    """Whether frames of videos, which it takes, have a tower of their own, or other tokens than pictures."""
    facts = prompter.manifest.facts
    modules, films = facts.family.modules if facts.family else None, facts.shape.films
    apart = (modules is not None and modules.film_tower) or (films is not None and films.merge)
    return bool(apart and prompter.strategy.film_placeholder)
