"""The dense model's own greedy answers, ready to be forced on a slimmer model.

A rollout is prompt + answer; what a slim model is judged by, and repaired to, are the positions that predict
the answer's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from topovlm.checkpoint.live import (
    Encoded,
    Live,
    batches_by_length,
    collate,
    encode,
    forward_decoder,
    greedy,
)
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

# What a decoder block is given besides the residual stream; whatever the model's own forward pass hands it.
Arguments = dict[str, object]


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
) -> Iterator[Rollouts]:
    """Greedy answers of the model to every sample, one batch of like length after the other.

    Raises `InputError` for no samples.
    """
    if not samples:
        raise InputError(explain("held-out samples", 0, "at least one is needed"))
    prompts = [encode(live, sample) for sample in samples]
    done = 0
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
        yield Rollouts(
            batch,
            torch.tensor(rows, device=live.device),
            torch.tensor(positions, device=live.device),
            tuple(indices),
            batch["attention_mask"].bool(),
        )
        done += len(indices)
        if progress:
            progress(done, len(samples))


def stream_of(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The residual stream [B, T, width] in what a decoder block returns."""
    return output[0] if isinstance(output, tuple) else output


@dataclass
class Recording:
    """One pass through the decoder: the stream that enters its first block, the one that leaves its last,
    and what each block was given besides (masks, positions)."""

    entering: torch.Tensor
    leaving: torch.Tensor
    arguments: list[Arguments]


@torch.inference_mode()
def recorded_blocks(live: Live, batch: dict[str, torch.Tensor]) -> Recording:
    """Run the dense model on a right-padded batch and keep what its blocks saw."""
    entering: list[torch.Tensor] = []
    leaving: list[torch.Tensor] = []
    arguments: list[Arguments] = []

    def before(_module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, object]) -> None:
        rest = dict(kwargs)
        hidden = args[0] if args else rest.pop("hidden_states")
        if not entering:
            assert isinstance(hidden, torch.Tensor)
            entering.append(hidden)
        arguments.append(rest)

    def after(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> None:
        leaving.append(stream_of(output))

    handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in live.blocks]
    handles.append(live.blocks[-1].register_forward_hook(after))
    try:
        forward_decoder(live, batch)
    finally:
        for handle in handles:
            handle.remove()
    return Recording(entering[0], leaving[0], arguments)
