"""The dense model's own greedy answers, ready to be forced on a slimmer model.

A rollout is prompt + answer; what a slim model is judged by, and repaired to, are the positions that predict
the answer's tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from topovlm.checkpoint.encoded import Encoded, batches_by_length
from topovlm.checkpoint.live import Live, answered, collate, encode, forward_decoder, greedy
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.families.layers import tied_layers
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

    Raises `InputError` for no samples, and for one that passes the model's context with its answer.
    """
    if not samples:
        raise InputError(explain("held-out samples", 0, "at least one is needed"))
    prompts = [encode(live, sample, max_new_tokens) for sample in samples]
    done = 0
    for indices in batches_by_length([prompt.length for prompt in prompts], batch_size):
        answers = greedy(live, [prompts[index] for index in indices], max_new_tokens)
        whole: list[Encoded] = []
        rows: list[int] = []
        positions: list[int] = []
        for row, (index, answer) in enumerate(zip(indices, answers, strict=True)):
            prompt = prompts[index]
            whole.append(answered(live, prompt, answer))
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
    and what each block was given besides (masks, positions). `added`: by layer, what its family adds to the
    stream behind that block (DeepStack's features of pictures)."""

    entering: torch.Tensor
    leaving: torch.Tensor
    arguments: list[Arguments]
    added: dict[int, torch.Tensor]


@torch.inference_mode()
def recorded_blocks(live: Live, batch: dict[str, torch.Tensor]) -> Recording:
    """Run the dense model on a right-padded batch and keep what its blocks saw.

    Raises `InputError` naming a layer whose stream the family changes where it is not known to.
    """
    first: list[torch.Tensor] = []
    last: list[torch.Tensor] = []  # what left the block before
    arguments: list[Arguments] = []
    added: dict[int, torch.Tensor] = {}

    def arrives(hidden: torch.Tensor) -> None:
        if not last:
            first.append(hidden)
        elif hidden is not last[0] and not torch.equal(hidden, last[0]):
            added[len(arguments) - 1] = hidden - last[0]

    def before(_module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, object]) -> None:
        rest = dict(kwargs)
        hidden = args[0] if args else rest.pop("hidden_states")
        assert isinstance(hidden, torch.Tensor)
        arrives(hidden)
        arguments.append(rest)

    def after(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> None:
        last[:] = [stream_of(output)]

    def end(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        arrives(args[0])
        last[:] = [args[0]]

    handles = [live.norm.register_forward_pre_hook(end)]
    for block in live.blocks:
        handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(block.register_forward_hook(after))
    try:
        forward_decoder(live, batch)
    finally:
        for handle in handles:
            handle.remove()
    _refuse_unknown_coupling(live, len(arguments), added)
    return Recording(first[0], last[0], arguments, added)


def _refuse_unknown_coupling(live: Live, calls: int, added: Iterable[int]) -> None:
    """Raise `InputError` where blocks one by one would not be the model."""
    family = live.parts.family
    remedy = "Layers of this model cannot be removed safely"
    if calls != live.layers:
        rule = f"one pass of this {family.model_type} model runs {calls} blocks"
        raise InputError(explain("layers", live.layers, rule, remedy))
    tied = tied_layers(live.model.config.to_dict(), family)
    for layer in added:
        if layer not in tied:
            rule = f"a {family.model_type} model changes the stream behind it, in a way that is not known"
            raise InputError(explain("layer", layer, rule, remedy))
