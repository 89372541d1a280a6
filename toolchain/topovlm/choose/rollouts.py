"""The dense model's own greedy answers, ready to be forced on a slimmer model.

A rollout is prompt + answer; what a slim model is judged by, and repaired to, are the positions that predict
the answer's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from topovlm.checkpoint.live import Encoded, Live, batches_by_length, collate, encode, greedy
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rollouts:
    """One right-padded batch. `rows`, `positions` [n] point at the places that predict answer tokens;
    `samples` [B] are indices into the caller's list, `real` [B, T] marks what is not padding."""

    batch: dict[str, torch.Tensor]
    rows: torch.Tensor
    positions: torch.Tensor
    samples: tuple[int, ...]
    real: torch.Tensor


def roll_out(
    live: Live,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int = 32,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> list[Rollouts]:
    """Greedy answers of the model to every sample, in batches of like length. Raises `InputError`."""
    if not samples:
        raise InputError(explain("held-out samples", 0, "at least one is needed"))
    prompts = [encode(live, sample) for sample in samples]
    result, done = [], 0
    for indices in batches_by_length([prompt.length for prompt in prompts], batch_size):
        answers = greedy(live, [prompts[index] for index in indices], max_new_tokens)
        whole: list[Encoded] = []
        rows: list[int] = []
        positions: list[int] = []
        for row, (index, answer) in enumerate(zip(indices, answers, strict=True)):
            prompt = prompts[index]
            ids = torch.cat([prompt.input_ids, torch.tensor(answer, dtype=torch.long)])
            whole.append(Encoded(ids, prompt.extra))
            rows += [row] * len(answer)
            positions += range(prompt.length - 1, prompt.length - 1 + len(answer))
        batch = collate(live, whole)
        result.append(
            Rollouts(
                batch,
                torch.tensor(rows, device=live.device),
                torch.tensor(positions, device=live.device),
                tuple(indices),
                batch["attention_mask"].bool(),
            )
        )
        done += len(indices)
        if progress:
            progress(done, len(samples))
    return result


@contextmanager
def recorded_blocks(
    live: Live, layers: Sequence[int]
) -> Iterator[dict[int, tuple[torch.Tensor, dict[str, Any]]]]:
    """While open, the residual stream entering each of `layers` and the block's other arguments are kept."""
    seen: dict[int, tuple[torch.Tensor, dict[str, Any]]] = {}

    def hook(layer: int) -> Callable[..., None]:
        def keep(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            rest = dict(kwargs)
            hidden = args[0] if args else rest.pop("hidden_states")
            seen[layer] = (hidden, rest)

        return keep

    handles = [
        live.blocks[layer].register_forward_pre_hook(hook(layer), with_kwargs=True) for layer in layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
