"""A vision-language model on questions about pictures: right where every token of the answer comes first.

That is exact match of greedy answers, without generating them: the reference answer and the end token are
forced, and each must be the likeliest where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from benchmarks.accuracy.subject import Outcome, log_probabilities
from topovlm.checkpoint.encoded import batches_by_length
from topovlm.checkpoint.files import read_facts
from topovlm.checkpoint.live import Live, answered, collate, encode, load
from topovlm.choose.sweep import Entered, Variant, enter, neighbours_first, sweep
from topovlm.evaluation.task import Task
from topovlm.samples import Sample

_HELD_OUT = 2000
_BATCH = 32


@dataclass(frozen=True)
class _Batch:
    """`rows`, `positions`, `tokens` [n]: the places that predict answers, and what belongs there; `samples`
    [B]: indices of the questions."""

    entered: Entered
    rows: torch.Tensor
    positions: torch.Tensor
    tokens: torch.Tensor
    samples: tuple[int, ...]


class Lvlm:
    """The checkpoint in `folder` on a task with splits "calibration" and "test", in float32."""

    measures: tuple[str, ...] = ("right", "nll")

    def __init__(self, name: str, folder: Path, task: Task) -> None:
        self.name, self.folder, self.task = name, folder, task
        self.asked = _HELD_OUT
        facts = read_facts(folder)
        self.layers = facts.shape.decoder.layers
        self.protected = frozenset(facts.protected_layers())

    def at(self, folder: Path) -> Lvlm:
        other = Lvlm(self.name, folder, self.task)
        other.asked = self.asked
        return other

    def about(self, samples: Sequence[Sample]) -> Lvlm:
        """The same checkpoint on these questions."""
        other = Lvlm(self.name, self.folder, self.task)
        other.live, other.questions = self.live, list(samples)
        return other

    @cached_property
    def live(self) -> Live:
        return load(self.folder)

    def calibration(self, count: int, seed: int) -> list[Sample]:
        return self._asked(self.task.samples("calibration", count, seed))

    def _asked(self, samples: Sequence[Sample]) -> list[Sample]:
        return [replace(sample, prompt=self.task.prompt(sample)) for sample in samples]

    @cached_property
    def questions(self) -> list[Sample]:
        return self._asked(self.task.samples("test", self.asked, 0))

    @property
    def chance(self) -> Mapping[str, float]:
        return MappingProxyType({"right": float(np.mean([one.chance or 0.0 for one in self.questions]))})

    @cached_property
    def _batches(self) -> list[_Batch]:
        live, ends = self.live, list(self.live.eos_token_ids)[:1]
        prompts = [encode(live, question) for question in self.questions]
        answers = [
            [*live.tokenizer(question.answer, add_special_tokens=False)["input_ids"], *ends]
            for question in self.questions
        ]
        found = []
        for members in batches_by_length([prompt.length for prompt in prompts], _BATCH):
            places = [
                (row, prompts[member].length - 1 + step, token)
                for row, member in enumerate(members)
                for step, token in enumerate(answers[member])
            ]
            batch = collate(live, [answered(live, prompts[member], answers[member]) for member in members])
            rows, positions, tokens = map(torch.tensor, zip(*places, strict=True))
            found.append(_Batch(enter(live, batch), rows, positions, tokens, tuple(members)))
        return found

    @torch.inference_mode()
    def measure(self, variants: Sequence[Variant]) -> list[Outcome]:
        count = len(self.questions)
        found = [{name: np.zeros(count) for name in self.measures} for _ in variants]
        order = neighbours_first(variants, self.layers)
        for batch in self._batches:
            streams = sweep(self.live, [batch.entered], [variants[number] for number in order])
            for number, (stream,) in zip(order, streams, strict=True):
                right, nll = self._of(stream, batch)
                found[number]["right"][list(batch.samples)] = right
                found[number]["nll"][list(batch.samples)] = nll
        return [Outcome(items) for items in found]

    def _of(self, stream: torch.Tensor, batch: _Batch) -> tuple[np.ndarray, np.ndarray]:
        """float64 [B]: 1 where all tokens come first, and nats per token."""
        log_p = log_probabilities(self.live, stream[batch.rows, batch.positions])
        zeros = torch.zeros(len(batch.samples), dtype=torch.float64)
        counts = zeros.index_add(0, batch.rows, torch.ones(len(batch.rows), dtype=torch.float64))
        first = (log_p.argmax(-1) == batch.tokens).double()
        lost = -log_p.gather(-1, batch.tokens[:, None])[:, 0].double()
        right = zeros.index_add(0, batch.rows, first) == counts
        return right.double().numpy(), (zeros.index_add(0, batch.rows, lost) / counts).numpy()
