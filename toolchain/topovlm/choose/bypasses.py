"""What is left of the last cloud when one layer is gone: every layer by itself left out, in shared passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from topovlm.choose.calibration import check_finite, collated_batches, rows_of_batches
from topovlm.choose.clouds import Reading
from topovlm.console import Progress
from topovlm.families.layers import tied_layers
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live

BATCH = 16
STREAM_BYTES = 1 << 30


def collect_bypassed(
    live: Live, samples: Sequence[Sample], cloud: str = "residual", *, progress: Progress | None = None
) -> np.ndarray:
    """What leaves the decoder at the last prompt token without layer l, and in the last row without none:
    float32 [layers + 1, samples, width].

    Zeros for layers that their family ties to their place. About half as many passes as there are layers, on
    so many samples: variants share their streams up to the layer that goes. Raises `InputError`.
    """
    from topovlm.checkpoint.live import encode

    rows = rows_of_batches([encode(live, sample, new_tokens=0).length for sample in samples], BATCH)
    found = np.empty((live.layers + 1, len(samples), _width(live)), dtype=np.float32)
    done = 0
    for members in rows:
        found[:, members] = bypassed_of_batches(live, [[samples[row] for row in members]], cloud)
        done += len(members)
        if progress:
            progress(done, len(samples))
    check_finite(found, live.folder)
    return found


def bypassed_of_batches(
    live: Live, batches: Sequence[Sequence[Sample]], cloud: str, *, stream_bytes: int = STREAM_BYTES
) -> np.ndarray:
    """As `collect_bypassed`, of batches that somebody else has composed, their samples in that order.

    `stream_bytes` bounds the streams in memory: with less, fewer layers go side by side.
    """
    from topovlm.choose.reading import Reader, norm_of
    from topovlm.choose.sweep import Variant, enter, sweep

    rows, collated = collated_batches(live, batches)
    found = np.zeros((live.layers + 1, sum(map(len, rows)), _width(live)), dtype=np.float32)
    norm, reading = norm_of(live), Reading("last", cloud)
    tied = tied_layers(live.model.config.to_dict(), live.parts.family)
    able = [layer for layer in range(live.layers) if layer not in tied]
    for members, batch in zip(rows, collated, strict=True):
        reader = Reader(live, batch, (reading,), norm)
        with live.ends(head=False):
            entered = enter(live, batch)
        size = entered.stream.numel() * entered.stream.element_size()
        for some in _side_by_side([*able, live.layers], max(1, stream_bytes // size - 2)):
            gone = [Variant(frozenset({layer} & set(able))) for layer in some]
            for layer, (leaving,) in zip(some, sweep(live, [entered], gone), strict=True):
                found[layer, members] = reader(leaving)[0].cpu().numpy()
    return found


def _side_by_side(layers: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Neighbours together: they share the longest part of the way."""
    for start in range(0, len(layers), most):
        yield layers[start : start + most]


def _width(live: Live) -> int:
    return int(live.model.config.get_text_config().hidden_size)
