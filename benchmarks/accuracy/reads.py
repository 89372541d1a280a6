"""Zigzag of what the answer reads: clouds of what attention gives the last prompt token, layer by layer.

What a layer's other tokens hold reaches the answer only through it, so these clouds weigh everything by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.draws import SAMPLES
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import Losses, head, say
from benchmarks.accuracy.scorers import proposed, seen_by
from benchmarks.accuracy.subject import Subject
from topovlm.checkpoint.live import Live
from topovlm.choose.calibration import stretches
from topovlm.choose.clouds import STREAM, clouds_of
from topovlm.choose.loops import barcode_with_loops
from topovlm.choose.scorers import Settings
from topovlm.choose.scoring import score
from topovlm.choose.sweep import Variant, enter, sweep
from topovlm.config import resolve
from topovlm.pipeline.clouds import cloud_of
from topovlm.samples import Sample

_BATCH, _STREAM_BYTES = 16, 1 << 30


def reads(live: Live, samples: Sequence[Sample]) -> np.ndarray:
    """What the attention of each block adds to the stream of the last prompt token: float32 [layers, samples,
    width]. Of decoders whose blocks call it `self_attn`."""
    width = live.model.config.get_text_config().hidden_size
    found = np.empty((live.layers, len(samples), width), dtype=np.float32)
    given: list[torch.Tensor] = []
    handles = [
        block.self_attn.register_forward_hook(lambda _module, _args, output: given.append(output[0]))
        for block in live.blocks
    ]
    try:
        for rows, batches in stretches(live, samples, _BATCH, _STREAM_BYTES):
            for members, batch in zip(rows, batches, strict=True):
                last = batch["attention_mask"].sum(1) - 1
                with live.ends(head=False):
                    entered = enter(live, batch)
                given.clear()
                sweep(live, [entered], [Variant()])
                for layer, output in enumerate(given):
                    found[layer, members] = output[torch.arange(len(last)), last].float().cpu().numpy()
    finally:
        for handle in handles:
            handle.remove()
    return found


def compare_reads(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Losses of the sets that the zigzag of these clouds proposes, beside that of the default's clouds, and
    block influence."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    losses = Losses(subject.measures, dense)
    cloud = cloud_of(resolve({}))
    for seed in seeds:
        states = seen_by(subject, room, seed).states
        clouds = {
            "the stream": clouds_of(states, cloud.stream, cloud.token),
            "what the answer reads": _kept_reads(subject, room, seed),
        }
        barcodes = {name: barcode_with_loops(points, cloud.neighbours) for name, points in clouds.items()}
        for count in counts:
            base = Settings(seed=seed, drop_count=count, protected=subject.protected)
            values = {"block influence": score(states[STREAM], "block-influence", base).scores}
            for name, (k, barcode) in barcodes.items():
                settings = replace(base, k=k, barcode=barcode, points=clouds[name])
                values[f"zigzag of {name}"] = score(clouds[name], "zigzag", settings).scores
            drops = [proposed(subject, np.asarray(one), count) for one in values.values()]
            losses.add(count, dict(zip(values, measured(drops), strict=True)))
        say(f"{subject.name}: seed {seed}, what the answer reads")
    return {**head(subject, dense, seeds, counts), "losses": losses.summed()}


def _kept_reads(subject: Subject, room: Path, seed: int) -> np.ndarray:
    return once(room / f"reads-{seed}.pkl", lambda: reads(subject.live, subject.calibration(SAMPLES, seed)))
