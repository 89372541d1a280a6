"""What the dense model teaches: its own answers, and its streams where the slim model is compared with it.

Pictures, embeddings and the layers before the first cut compute the same in both models, and are not trained:
they run once. Streams wait on the CPU, those that are more than some memory in a file (`spill`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from topovlm.checkpoint.live import Live
from topovlm.choose.heal.around import behind_cuts, beside
from topovlm.choose.rollouts import Rollouts, roll_out
from topovlm.choose.spill import Spill
from topovlm.choose.sweep import Entered, Streams, Variant, enter, outside_inference, sweep
from topovlm.console import Progress
from topovlm.samples import Sample

_STREAM_BYTES = 1 << 30


@dataclass(frozen=True)
class Lesson:
    """One right-padded batch of prompts and the dense model's answers to them.

    `entered`: what enters the slim model's first layer that learns, and what every layer is given besides;
    `dense`: the dense stream [B, T, width] that enters a layer, behind every cut and behind the last layer;
    `rows`, `positions` [n]: the places that predict answer tokens, `text_rows`, `text_positions` those that
    predict tokens of the prompt's text; `visual`, `words` [B, T]: pieces of pictures, and all else that is
    not padding; `samples` [B]: indices into the caller's list.
    """

    entered: Entered
    dense: Mapping[int, torch.Tensor]
    rows: torch.Tensor
    positions: torch.Tensor
    text_rows: torch.Tensor
    text_positions: torch.Tensor
    visual: torch.Tensor
    words: torch.Tensor
    samples: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return int(self.visual.sum() + self.words.sum())


def first_learner(drop: Sequence[int], layers: int) -> int:
    """The first layer that learns: what lies before it is run once."""
    return beside(drop, layers)[0]


def prepare_lessons(
    live: Live,
    samples: Sequence[Sample],
    drop: Sequence[int],
    *,
    max_new_tokens: int = 32,
    batch_size: int = 8,
    stream_bytes: int = _STREAM_BYTES,
    progress: Progress | None = None,
) -> list[Lesson]:
    """The dense model's answers, and one pass of it over them. Raises `InputError` as `roll_out`."""
    rolled = list(
        roll_out(live, samples, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress)
    )
    with live.ends(head=False):
        batches = [enter(live, part.batch) for part in rolled]
    keep, layer = Spill(stream_bytes), first_learner(drop, live.layers)
    before = [Variant(), Variant(frozenset(one for one in drop if one < layer))]
    dense, slim = sweep(live, batches, before, stop=layer, keep=keep)
    entering, targets = slim, dict[int, Streams]()
    for point in sorted({*behind_cuts(drop, live.layers), live.layers}):
        (dense,) = sweep(live, batches, [Variant()], start=layer, stop=point, streams=[dense], keep=keep)
        layer = point
        targets[point] = [keep(outside_inference(stream).cpu()) for stream in dense]
    lessons = []
    for number, (part, batch) in enumerate(zip(rolled, batches, strict=True)):
        entered = replace(
            batch,
            stream=keep(outside_inference(entering[number]).cpu()),
            arguments=_shared_arguments(batch),
            added={layer: outside_inference(stream) for layer, stream in batch.added.items()},
        )
        lessons.append(_lesson(live, part, entered, {point: held[number] for point, held in targets.items()}))
        batches[number] = replace(batch, stream=batch.stream[:0])
    return lessons


def _shared_arguments(batch: Entered) -> tuple[dict[str, object], ...]:
    """Of every layer, outside of inference mode; masks and angles that layers share stay shared."""
    known: dict[int, object] = {}

    def once(value: object) -> object:
        if id(value) not in known:
            known[id(value)] = outside_inference(value)
        return known[id(value)]

    return tuple({name: once(value) for name, value in given.items()} for given in batch.arguments)


def _lesson(live: Live, part: Rollouts, entered: Entered, dense: Mapping[int, torch.Tensor]) -> Lesson:
    ids, real = part.batch["input_ids"], part.real
    visual = real & live.is_visual(ids)
    answers = torch.zeros_like(real)
    answers[part.rows, part.positions] = True
    # A place predicts the token behind it; what the chat template puts first is text as well.
    predicts = torch.zeros_like(real)
    predicts[:, :-1] = real[:, 1:] & ~visual[:, 1:]
    text_rows, text_positions = (predicts & ~answers).nonzero(as_tuple=True)
    return Lesson(
        entered=entered,
        dense=dense,
        rows=part.rows.clone(),
        positions=part.positions.clone(),
        text_rows=text_rows,
        text_positions=text_positions,
        visual=visual,
        words=real & ~visual,
        samples=part.samples,
    )
