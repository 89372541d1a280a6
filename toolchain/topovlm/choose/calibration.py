"""Samples through the dense model, once: one point cloud per decoder layer.

Heavy imports happen inside `collect_states`; importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

if TYPE_CHECKING:
    import torch

    from topovlm.checkpoint.live import Live

TOKEN_CHOICES = ("last", "text-mean", "image-mean")
_ALIASES = {"ret": "last"}
_BATCHES_PER_STRETCH = 8


def collect_states(
    model: Path | str | Live,
    samples: Sequence[Sample],
    *,
    token: str = "last",
    batch_size: int = 16,
    stream_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> np.ndarray:
    """Residual stream after each decoder block, before the final norm: float32 [layers, samples, width].

    `token`: "last" (alias "ret") takes the last prompt token after the chat template, the one that predicts
    the answer; "text-mean" and "image-mean" average over the prompt's text or image tokens. A sample gives
    the same vectors alone and in a batch. `stream_bytes` bounds the streams that are in memory together: with
    less, the weights are read more often. `progress(done, total)` counts samples times layers.
    Raises `InputError`.
    """
    from topovlm.checkpoint.live import as_live

    token = _ALIASES.get(token, token)
    if token not in TOKEN_CHOICES:
        raise InputError(explain("--token", token, "is unknown", f"Choose one of {', '.join(TOKEN_CHOICES)}"))
    if not samples:
        raise InputError(explain("calibration samples", 0, "at least one is needed"))
    if batch_size < 1:
        raise InputError(explain("batch size", batch_size, "must be at least 1"))
    live = as_live(model)
    for sample in samples:
        if token == "image-mean" and not sample.images:
            rule = "there is no picture to average over"
            raise InputError(explain("--token", token, rule).at(sample.source or sample.id))
    width = live.model.config.get_text_config().hidden_size
    states = np.empty((live.layers, len(samples), width), dtype=np.float32)
    done = 0

    def passed(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done, len(samples) * live.layers)

    for rows, batches in _stretches(live, samples, batch_size, stream_bytes):
        _fill(live, states, rows, batches, token=token, passed=passed)
    check_finite(states, live.folder)
    return states


def check_finite(states: np.ndarray, folder: Path) -> None:
    """Raise `InputError` naming the first layer whose streams [layers, samples, width] are no numbers."""
    if not np.isfinite(states).all():
        layer = int(np.argwhere(~np.isfinite(states))[0, 0])
        rule = f"the residual stream after layer {layer} is not finite"
        raise InputError(explain("--model", str(folder), rule, "The weights are damaged or overflow"))


def rows_of_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Samples (by index) in the batches of `collect_states`, by the lengths of their prompts."""
    size = _BATCHES_PER_STRETCH * batch_size
    return [
        rows
        for start in range(0, len(lengths), size)
        for rows in _rows_of_stretch(lengths[start : start + size], batch_size, start)
    ]


def _rows_of_stretch(lengths: Sequence[int], batch_size: int, start: int) -> list[list[int]]:
    from topovlm.checkpoint.encoded import batches_by_length

    return [[start + member for member in members] for members in batches_by_length(lengths, batch_size)]


def states_of_batches(live: Live, batches: Sequence[Sequence[Sample]], *, token: str = "last") -> np.ndarray:
    """As `collect_states`, of batches that somebody else has composed; their samples in that order."""
    from topovlm.checkpoint.live import collate, encode

    rows: list[list[int]] = []
    collated: list[dict[str, torch.Tensor]] = []
    for batch in batches:
        first = sum(map(len, rows))
        rows.append(list(range(first, first + len(batch))))
        collated.append(collate(live, [encode(live, sample, new_tokens=0) for sample in batch]))
    width = live.model.config.get_text_config().hidden_size
    states = np.empty((live.layers, sum(map(len, rows)), width), dtype=np.float32)
    _fill(live, states, rows, collated, token=token, passed=lambda _rows: None)
    return states


def _stretches(
    live: Live, samples: Sequence[Sample], batch_size: int, stream_bytes: int
) -> Iterator[tuple[list[list[int]], list[dict[str, torch.Tensor]]]]:
    """Samples (by index) in batches of like length, as many batches at a time as their streams have room for.

    One stretch of decoded pictures is in memory at a time.
    """
    from topovlm.checkpoint.live import collate, encode

    width = live.model.config.get_text_config().hidden_size * live.dtype.itemsize
    rows: list[list[int]] = []
    batches: list[dict[str, torch.Tensor]] = []
    held = 0
    for start in range(0, len(samples), _BATCHES_PER_STRETCH * batch_size):
        stretch = samples[start : start + _BATCHES_PER_STRETCH * batch_size]
        prompts = [encode(live, sample, new_tokens=0) for sample in stretch]
        for members in _rows_of_stretch([prompt.length for prompt in prompts], batch_size, start):
            batch = collate(live, [prompts[member - start] for member in members])
            size = batch["input_ids"].numel() * width
            if batches and held + size > stream_bytes:
                yield rows, batches
                rows, batches, held = [], [], 0
            rows.append(members)
            batches.append(batch)
            held += size
    if batches:
        yield rows, batches


def _fill(
    live: Live,
    states: np.ndarray,
    rows: Sequence[Sequence[int]],
    batches: Sequence[dict[str, torch.Tensor]],
    *,
    token: str,
    passed: Callable[[int], None],
) -> None:
    """Write the chosen token's residual stream after every block, of all batches, in one pass.

    `passed` is told how many samples have passed one more layer.
    """
    import torch

    from topovlm.choose.sweep import Variant, enter, sweep

    weights = [_token_weights(batch, live.image_token_id, token) for batch in batches]
    with live.ends(head=False):
        entered = [enter(live, batch) for batch in batches]

    # What enters the block behind: some families add features of pictures between the two.
    def keep(layer: int, _members: tuple[int, ...], number: int, stream: torch.Tensor) -> None:
        chosen = torch.einsum("btd,bt->bd", stream.float(), weights[number])
        states[layer, rows[number]] = chosen.cpu().numpy()
        passed(len(rows[number]))

    sweep(live, entered, [Variant()], visit=keep)


def _token_weights(batch: dict[str, torch.Tensor], image_token_id: int | None, token: str) -> torch.Tensor:
    """float32 [B, T]: how much each position counts; rows sum to one, padding is zero."""
    import torch

    mask = batch["attention_mask"].bool()
    if token == "last":
        chosen = torch.zeros_like(mask)
        chosen[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1] = True
    else:
        is_image = batch["input_ids"] == (-1 if image_token_id is None else image_token_id)
        chosen = mask & (is_image if token == "image-mean" else ~is_image)
    weights = chosen.float()
    return weights / weights.sum(1, keepdim=True)
