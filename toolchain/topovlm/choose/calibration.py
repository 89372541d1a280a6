"""Samples through the dense model, once: one point cloud per decoder layer.

Heavy imports happen inside functions; importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from topovlm.choose.clouds import ALL_READINGS, STREAM, Reading, check_token, clouds_of, readings_for
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

if TYPE_CHECKING:
    import torch

    from topovlm.checkpoint.live import Live

_ALIASES = {"ret": "last"}
_BATCHES_PER_STRETCH = 8


def collect_states(
    model: Path | str | Live,
    samples: Sequence[Sample],
    *,
    token: str = "last",
    cloud: str = "residual",
    batch_size: int = 16,
    stream_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> np.ndarray:
    """Residual stream after each decoder block, before the final norm: float32 [layers, samples, width].

    `token`: "last" (alias "ret") takes the last prompt token after the chat template, the one that predicts
    the answer; "text-mean" and "image-mean" average over the prompt's text or image tokens; "multi" gives
    several points per sample (`clouds.clouds_of`). `cloud`: "normalised" takes each token's vector as the
    next norm sees it, without the norm's gain. The rest as in `collect`. Raises `InputError`.
    """
    token = _ALIASES.get(token, token)
    readings = readings_for(cloud, token)
    check_token(token, samples)
    states = collect(
        model, samples, readings, batch_size=batch_size, stream_bytes=stream_bytes, progress=progress
    )
    return clouds_of(states, cloud, token)


def collect(
    model: Path | str | Live,
    samples: Sequence[Sample],
    readings: Sequence[Reading] = ALL_READINGS,
    *,
    batch_size: int = 16,
    stream_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> dict[Reading, np.ndarray]:
    """In one pass all `readings` after each decoder block, by reading float32 [layers, samples, width].

    A sample gives the same vectors alone and in a batch; zeros where it has no such token. `stream_bytes`
    bounds the streams that are in memory together: with less, the weights are read more often.
    `progress(done, total)` counts samples times layers. Raises `InputError`.
    """
    from topovlm.checkpoint.live import as_live

    if not samples:
        raise InputError(explain("calibration samples", 0, "at least one is needed"))
    if batch_size < 1:
        raise InputError(explain("batch size", batch_size, "must be at least 1"))
    live = as_live(model)
    states = _nothing_yet(live, readings, len(samples))
    done = 0

    def passed(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done, len(samples) * live.layers)

    for rows, batches in stretches(live, samples, batch_size, stream_bytes):
        _fill(live, states, rows, batches, readings, passed=passed)
    check_finite(states, live.folder)
    return dict(zip(readings, states, strict=True))


def _nothing_yet(live: Live, readings: Sequence[Reading], samples: int) -> np.ndarray:
    width = live.model.config.get_text_config().hidden_size
    return np.empty((len(readings), live.layers, samples, width), dtype=np.float32)


def check_finite(states: np.ndarray, folder: Path) -> None:
    """Raise `InputError` naming the first layer whose vectors in [..., layers, samples, width] are none."""
    if not np.isfinite(states).all():
        layer = int(np.argwhere(~np.isfinite(states))[:, -3].min())
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


def states_of_batches(
    live: Live, batches: Sequence[Sequence[Sample]], readings: Sequence[Reading] = (STREAM,)
) -> np.ndarray:
    """As `collect`, of batches that somebody else has composed, their samples in that order: float32
    [readings, layers, samples, width]."""
    rows, collated = collated_batches(live, batches)
    states = _nothing_yet(live, readings, sum(map(len, rows)))
    _fill(live, states, rows, collated, readings, passed=lambda _rows: None)
    return states


def collated_batches(
    live: Live, batches: Sequence[Sequence[Sample]]
) -> tuple[list[list[int]], list[dict[str, torch.Tensor]]]:
    """Batches that somebody else has composed: their samples (by index, in a row), and their tensors."""
    from topovlm.checkpoint.live import collate, encode

    rows: list[list[int]] = []
    collated: list[dict[str, torch.Tensor]] = []
    for batch in batches:
        first = sum(map(len, rows))
        rows.append(list(range(first, first + len(batch))))
        collated.append(collate(live, [encode(live, sample, new_tokens=0) for sample in batch]))
    return rows, collated


def stretches(
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
    readings: Sequence[Reading],
    *,
    passed: Callable[[int], None],
) -> None:
    """Write the readings [readings, layers, samples, width] after every block, of all batches, in one pass.

    `passed` is told how many samples have passed one more layer.
    """
    from topovlm.choose.reading import Reader, norm_of
    from topovlm.choose.sweep import Variant, enter, sweep

    norm = norm_of(live)
    readers = [Reader(live, batch, readings, norm) for batch in batches]
    with live.ends(head=False):
        entered = [enter(live, batch) for batch in batches]

    # What enters the block behind: some families add features of pictures between the two.
    def keep(layer: int, _members: tuple[int, ...], number: int, stream: torch.Tensor) -> None:
        states[:, layer, rows[number]] = readers[number](stream).cpu().numpy()
        passed(len(rows[number]))

    sweep(live, entered, [Variant()], visit=keep)
