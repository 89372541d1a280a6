"""Training batches: one picture (or three frames) with many questions in one sequence.

    <|user|> image tokens | question 1 ... answer 1 | question 2 ... answer 2 | ...

Every question sees the picture and itself, never another question, and its positions continue
behind the picture: token for token what the model sees when it is asked that question alone, at a
fraction of the cost, because the picture is encoded once. A batch is a pure function of
(seed, step), so a resumed training sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from topovlm.reference.architecture import ASSISTANT, END, IMAGE, PAD, USER
from topovlm.reference.drawing import CANVAS
from topovlm.reference.makers import MAKERS
from topovlm.reference.scenes import Scene

# Share of each maker among the single-picture sequences; the frame sequences have their own slots.
SINGLE_WEIGHTS = {
    "still": 0.36,
    "bar_chart": 0.14,
    "line_chart": 0.14,
    "diagram": 0.10,
    "digits": 0.10,
    "arithmetic": 0.16,
}
FRAME_MAKERS = ("motion", "order")


@dataclass(frozen=True)
class Layout:
    """Fixed shapes: `singles` one-picture and `triples` three-frame sequences of `length` tokens."""

    singles: int = 56
    triples: int = 8
    length: int = 176
    image_tokens: int = 36
    before: tuple[str, ...] = ()  # special tokens around those of a picture
    after: tuple[str, ...] = ()

    @property
    def sequences(self) -> int:
        return self.singles + self.triples

    @property
    def pictures(self) -> int:
        return self.singles + 3 * self.triples


@dataclass
class Batch:
    """Arrays of one step; B sequences of T tokens, P pictures."""

    pixels: np.ndarray  # uint8 [P, 48, 48, 3]
    tokens: np.ndarray  # int64 [B, T]
    positions: np.ndarray  # int64 [B, T]
    segments: np.ndarray  # int64 [B, T]: 0 picture, 1.. questions, -1 padding
    targets: np.ndarray  # int64 [B, T]: the next token where it is part of an answer, else -100
    weights: np.ndarray  # float32 [B, T]


class Packer:
    """Turns scenes into batches; holds the tokenizer and the layout."""

    def __init__(self, tokenizer: Tokenizer, layout: Layout, seed: int) -> None:
        self.tokenizer, self.layout, self.seed = tokenizer, layout, seed
        self._id = {name: tokenizer.token_to_id(name) for name in (PAD, USER, ASSISTANT, END, IMAGE)}
        picture = (*layout.before, *(IMAGE,) * layout.image_tokens, *layout.after)
        self._picture = [tokenizer.token_to_id(name) for name in picture]
        self._cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > 100_000:
                self._cache.clear()
            self._cache[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self._cache[text]

    def scenes(self, step: int) -> list[Scene]:
        """The pictures of one step, single ones first."""
        rng = np.random.default_rng([self.seed, step])
        names, weights = list(SINGLE_WEIGHTS), list(SINGLE_WEIGHTS.values())
        made = [MAKERS[str(rng.choice(names, p=weights))](rng, "train") for _ in range(self.layout.singles)]
        made += [
            MAKERS[FRAME_MAKERS[i % len(FRAME_MAKERS)]](rng, "train") for i in range(self.layout.triples)
        ]
        return made

    def batch(self, step: int) -> Batch:
        layout = self.layout
        shape = (layout.sequences, layout.length)
        batch = Batch(
            pixels=np.zeros((layout.pictures, CANVAS, CANVAS, 3), np.uint8),
            tokens=np.full(shape, self._id[PAD], np.int64),
            positions=np.zeros(shape, np.int64),
            segments=np.full(shape, -1, np.int64),
            targets=np.full(shape, -100, np.int64),
            weights=np.zeros(shape, np.float32),
        )
        scenes = self.scenes(step)
        batch.pixels[:] = np.stack([frame for scene in scenes for frame in scene.frames])
        rng = np.random.default_rng([self.seed, step, 1])
        for row, scene in enumerate(scenes):
            self._fill(batch, row, scene, rng)
        return batch

    def _fill(self, batch: Batch, row: int, scene: Scene, rng: np.random.Generator) -> None:
        start = [self._id[USER], *self._picture * len(scene.frames)]
        prefix = len(start)
        batch.tokens[row, :prefix] = start
        batch.positions[row, :prefix] = np.arange(prefix)
        batch.segments[row, :prefix] = 0
        cursor = prefix
        for segment, index in enumerate(rng.permutation(len(scene.questions)), start=1):
            question = scene.questions[index]
            prompt = [*self.encode(question.prompt), self._id[END], self._id[ASSISTANT]]
            answer = [*self.encode(question.answer), self._id[END]]
            size = len(prompt) + len(answer)
            if cursor + size > self.layout.length:
                continue
            span = slice(cursor, cursor + size)
            batch.tokens[row, span] = prompt + answer
            batch.positions[row, span] = prefix + np.arange(size)
            batch.segments[row, span] = segment
            first = cursor + len(prompt) - 1
            batch.targets[row, first : first + len(answer)] = answer
            # A long description must not drown the one-word answers.
            batch.weights[row, first : first + len(answer)] = len(answer) ** -0.5
            cursor += size


# Classes of the vision pretraining; class 0 of each is "nothing of this kind here".
REGION_CLASSES = {"colour": 7, "shape": 7, "size": 3, "glyph": 15, "value": 11}


def region_grid(scene: Scene, patch: int) -> list[dict[str, np.ndarray]]:
    """Per frame and label an int64 [patches, patches] grid of classes."""
    count = CANVAS // patch
    centre = (np.arange(count) + 0.5) * patch
    grids = [{name: np.zeros((count, count), np.int64) for name in REGION_CLASSES} for _ in scene.frames]
    for region in scene.regions:
        x0, y0, x1, y1 = region.box
        across = (centre > x0 - patch / 4) & (centre < x1 + patch / 4)
        down = (centre > y0 - patch / 4) & (centre < y1 + patch / 4)
        for name, value in region.labels.items():
            grids[region.frame][name][np.ix_(down, across)] = value + 1
    return grids
