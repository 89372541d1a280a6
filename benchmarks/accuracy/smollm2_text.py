"""SmolLM2-135M-Instruct on texts: the loss of the next token, and a forced choice of it among four.

What chooses are requests put through its chat template, about pieces of text that measure nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from benchmarks.accuracy import texts
from benchmarks.accuracy.subject import Outcome, log_probabilities
from topovlm.checkpoint.files import read_facts
from topovlm.checkpoint.live import Live, load
from topovlm.choose.sweep import Entered, Variant, enter, neighbours_first, sweep
from topovlm.samples import Sample

_CHARACTERS = 440
_TOKENS = 96
_HELD_OUT = 64  # pieces of each kind
_CHOICES = 4
_ROWS = 8
_REQUESTS = (
    "Continue this text.\n\n{}",
    "What is this text about?\n\n{}",
    "Say the main point of this text in one sentence.\n\n{}",
    "Write one question that this text answers.\n\n{}",
)


class SmolLm2Text:
    """The checkpoint in `folder`, in float32."""

    name = "SmolLM2-135M, text"
    measures: tuple[str, ...] = ("nll", "cloze")
    chance: Mapping[str, float] = MappingProxyType({"cloze": 1 / _CHOICES})

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = read_facts(folder)
        self.layers = facts.shape.decoder.layers
        self.protected = frozenset(facts.protected_layers())

    def at(self, folder: Path) -> SmolLm2Text:
        return SmolLm2Text(folder)

    def about(self, samples: Sequence[Sample]) -> None:
        """Texts ask nothing."""

    @cached_property
    def live(self) -> Live:
        return load(self.folder)

    def calibration(self, count: int, seed: int) -> list[Sample]:
        """Requests about pieces of the three kinds in turn, behind those that measure."""
        drawn = {kind: texts.drawn(kind, _CHARACTERS, 0)[_HELD_OUT:] for kind in texts.KINDS}
        rng, found = np.random.default_rng([seed, 11]), list[Sample]()
        orders = {kind: rng.permutation(len(pieces)) for kind, pieces in drawn.items()}
        for number in range(count):
            kind = list(drawn)[number % len(drawn)]
            index = int(orders[kind][number // len(drawn)])
            words = _REQUESTS[int(rng.integers(len(_REQUESTS)))].format(drawn[kind][index][:320])
            found.append(Sample(id=f"{kind}-{index}", images=(), prompt=words, group=f"{kind}-{index}"))
        return found

    @cached_property
    def _items(self) -> tuple[torch.Tensor, torch.Tensor]:
        """ids [items, T], and by token [items, T - 1, 3] what else might have followed."""
        rows = []
        for kind in texts.KINDS:
            for piece in texts.drawn(kind, _CHARACTERS, 0)[:_HELD_OUT]:
                ids = self.live.tokenizer(piece, add_special_tokens=False)["input_ids"]
                if len(ids) >= _TOKENS:
                    rows.append(ids[:_TOKENS])
        ids = torch.tensor(rows)
        rng = np.random.default_rng(3)
        # Other tokens by how often they are there: words as likely as the right one, in another place.
        others = torch.tensor(rng.choice(ids.flatten().numpy(), (*ids[:, 1:].shape, _CHOICES - 1)))
        same = others == ids[:, 1:, None]
        others[same] = (others[same] + 1) % len(self.live.tokenizer)
        return ids, others

    @cached_property
    def _batches(self) -> list[Entered]:
        ids, _ = self._items
        return [
            enter(self.live, {"input_ids": part, "attention_mask": torch.ones_like(part)})
            for part in torch.split(ids, _ROWS)
        ]

    @torch.inference_mode()
    def measure(self, variants: Sequence[Variant]) -> list[Outcome]:
        ids, others = self._items
        found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in variants]
        order = neighbours_first(variants, self.layers)
        for batch, part, wrong in zip(
            self._batches, torch.split(ids, _ROWS), torch.split(others, _ROWS), strict=True
        ):
            streams = sweep(self.live, [batch], [variants[number] for number in order])
            for number, (stream,) in zip(order, streams, strict=True):
                found[number].append(self._of(stream, part, wrong))
        return [
            Outcome(
                {
                    "nll": np.concatenate([nll for nll, _ in rows]),
                    "cloze": np.concatenate([cloze for _, cloze in rows]),
                }
            )
            for rows in found
        ]

    def _of(
        self, stream: torch.Tensor, ids: torch.Tensor, wrong: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """float64 [B]: nats per token, and the share of tokens that are likelier than three others."""
        log_p = log_probabilities(self.live, stream[:, :-1])
        right = log_p.gather(-1, ids[:, 1:, None])
        best = log_p.gather(-1, wrong).amax(-1, keepdim=True)
        nll = -right.double().mean((1, 2))
        return nll.numpy(), (right > best).double().mean((1, 2)).numpy()
