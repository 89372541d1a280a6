"""What a sample costs on this machine, measured with two layers of the model itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topovlm.errors import InputError
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.checkpoint.encoded import Encoded
    from topovlm.checkpoint.live import Live

_LAYERS = 2


@dataclass(frozen=True)
class Costs:
    """Of one sample of `tokens` tokens: `before_s`, its pictures and embeddings; `layer_s`, one decoder
    layer; `step_s`, one layer for one more token of a batch, which reads the layer's weights."""

    tokens: int
    before_s: float
    layer_s: float
    step_s: float


def measure_costs(live: Live, sample: Sample) -> Costs:
    """Two layers are run once to warm up and once to be timed; the others are not read."""
    from topovlm.checkpoint.live import collate, encode
    from topovlm.choose.sweep import Entered, Variant, enter, sweep

    layers = min(_LAYERS, live.layers)
    prompt = encode(live, sample)
    try:
        few = encode(live, Sample(id="words", images=(), prompt="a"))
    except InputError:  # some processors write no prompt without a picture: a step is taken for one, on top
        few = prompt

    def entered(encoded: Encoded) -> Entered:
        with live.ends(head=False):
            return enter(live, collate(live, [encoded]))

    def through(batch: Entered) -> float:
        began = time.perf_counter()
        sweep(live, [batch], [Variant()], stop=layers)
        return (time.perf_counter() - began) / layers

    short = entered(few)
    through(short)
    step_s = through(short)
    began = time.perf_counter()
    whole = entered(prompt)
    before_s = time.perf_counter() - began
    return Costs(tokens=prompt.length, before_s=before_s, layer_s=through(whole), step_s=step_s)
