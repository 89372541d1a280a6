"""Training batches: one picture (or three frames) with several questions in a row of fixed length.

    <|im_start|>user\\n, image tokens | question, answer, padding | question, answer, padding | ...

What a row may attend to: see `blocks`. A batch is a pure function of (seed, step, part), so a resumed
training sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.smol.asking import Speller
from benchmarks.smol.makers import MAKERS
from benchmarks.smol.pictures import SIDE
from benchmarks.smol.wordings import asked_as
from topovlm.reference.scenes import Question, Scene

IMAGE_TOKENS = 36
# Share of each maker among the one-picture rows.
WEIGHTS = {
    "still": 0.28, "bar_chart": 0.07, "line_chart": 0.07, "diagram": 0.07, "digits": 0.06, "arithmetic": 0.06,
    "flag": 0.08, "emoji": 0.08, "emojis": 0.07, "odd_one": 0.04, "chart": 0.09, "word": 0.09,
}  # fmt: skip
FRAME_MAKERS = ("motion", "order")


@dataclass(frozen=True)
class Form:
    """Rows of `frames` pictures with `questions` questions of at most `size` tokens, answers included."""

    frames: int
    questions: int
    size: int
    rows: int

    @property
    def prefix(self) -> int:
        return 3 + IMAGE_TOKENS * self.frames

    @property
    def length(self) -> int:
        return self.prefix + self.questions * self.size

    def positions(self) -> np.ndarray:
        """int64 [length]: every question continues behind the prefix."""
        asked = self.prefix + np.arange(self.size)
        return np.concatenate([np.arange(self.prefix), *[asked] * self.questions])


SHORT, LONG, FRAMES = Form(1, 6, 20, 12), Form(1, 3, 44, 12), Form(3, 3, 20, 10)
CYCLE = (SHORT, SHORT, LONG, SHORT, SHORT, SHORT, SHORT, SHORT, FRAMES, SHORT, LONG, SHORT)


@dataclass
class Batch:
    """Arrays of one step of one process; B rows of T tokens, P pictures."""

    form: Form
    pixels: np.ndarray  # uint8 [P, 96, 96, 3]
    tokens: np.ndarray  # int64 [B, T]; what lies where the picture is does not matter
    targets: np.ndarray  # int64 [B, T]: the next token where it is part of an answer, else -100
    weights: np.ndarray  # float32 [B, T]


class Packer:
    """Turns scenes into batches."""

    def __init__(self, speller: Speller, seed: int) -> None:
        self.speller, self.seed = speller, seed

    def batch(self, step: int, part: int) -> Batch:
        form = CYCLE[step % len(CYCLE)]
        rng = np.random.default_rng([self.seed, step, part])
        rows = [self._row(form, rng) for _ in range(form.rows)]
        shape = (form.rows, form.length)
        batch = Batch(
            form=form,
            pixels=np.stack([enlarged(frame) for scene, _ in rows for frame in scene.frames]),
            tokens=np.full(shape, self.speller.end, np.int64),
            targets=np.full(shape, -100, np.int64),
            weights=np.zeros(shape, np.float32),
        )
        batch.tokens[:, : len(self.speller.before)] = self.speller.before
        for row, (_, asked) in enumerate(rows):
            for slot, (question, answer) in enumerate(asked):
                self._fill(batch, row, form.prefix + slot * form.size, question, answer)
        return batch

    def _row(self, form: Form, rng: np.random.Generator) -> tuple[Scene, list[tuple[list[int], list[int]]]]:
        """A picture with questions that fit; rows for long questions prefer those that fit nowhere else."""
        names = list(WEIGHTS)
        while True:
            if form.frames > 1:
                name = FRAME_MAKERS[int(rng.integers(len(FRAME_MAKERS)))]
            else:
                name = str(rng.choice(names, p=np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())))
            scene = MAKERS[name](rng, "train")
            asked = [self._spelt(question, rng) for question in scene.questions]
            fitting = [pair for pair in asked if len(pair[0]) + len(pair[1]) <= form.size]
            if form is LONG:
                fitting = [pair for pair in fitting if len(pair[0]) + len(pair[1]) > SHORT.size] or []
            if fitting:
                order = rng.permutation(len(fitting))[: form.questions]
                return scene, [fitting[i] for i in order]

    def _spelt(self, question: Question, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        asked = asked_as(question, rng)
        return self.speller.question(asked.prompt), self.speller.answer(asked.answer)

    def _fill(self, batch: Batch, row: int, start: int, question: list[int], answer: list[int]) -> None:
        size = len(question) + len(answer)
        batch.tokens[row, start : start + size] = question + answer
        first = start + len(question) - 1
        batch.targets[row, first : first + len(answer)] = answer
        # A long description must not drown the one-word answers.
        batch.weights[row, first : first + len(answer)] = len(answer) ** -0.5


def enlarged(frame: np.ndarray) -> np.ndarray:
    """uint8 [96, 96, 3], as the processor makes it of a smaller picture."""
    if frame.shape[0] == SIDE:
        return frame
    return np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
