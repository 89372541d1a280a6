"""Whether a slim model that was measured meets its budgets, in figures and in words."""

from __future__ import annotations

import math
from typing import Literal

from topovlm.config import Config
from topovlm.measure.timing import Comparison, EngineTimings
from topovlm.pipeline.record import Attempt, PairedRatio
from topovlm.stats.robust import Ratio, paired_ratio, summarise
from topovlm.units import format_bytes, format_ms

DENSE, SLIM = "dense", "slim"


def assess(config: Config, keep: int, timed: Comparison) -> Attempt:
    """Whether the measured slim model meets the budgets of latency and memory.

    The upper end of an interval is compared, unless noise is larger than what a layer costs: then the median,
    since taking out another layer would answer the noise. A relative budget is judged on the ratio of the two
    models timed in turns.
    """
    phase: Literal["ttft", "end_to_end"] = "end_to_end" if config.new_tokens > 1 else "ttft"
    dense, slim = timed.engines[DENSE], timed.engines[SLIM]
    judged = {
        "max_latency": _latency(config, dense, slim, phase),
        "max_token_latency": _token(config, dense, slim),
        "max_memory": _memory(config, slim),
    }
    misses = [text for texts in judged.values() for text in texts]
    outcome = f"misses the budget: {'; '.join(misses)}" if misses else "meets the budget"
    return Attempt(
        keep=keep,
        met=not misses,
        phase=phase,
        slim_ms=summarise(slim.samples[phase]).median_ms,
        ratio=_stored(paired_ratio(dense.samples[phase], slim.samples[phase])),
        text=f"{keep} layers, measured: {outcome}",
        missed=tuple(name for name, texts in judged.items() if texts),
    )


def _stored(ratio: Ratio) -> PairedRatio:
    known = math.isfinite(ratio.low) and math.isfinite(ratio.high)
    low, high = (ratio.low, ratio.high) if known else (None, None)
    return PairedRatio(ratio=ratio.ratio, low=low, high=high, rounds=ratio.rounds)


def _latency(config: Config, dense: EngineTimings, slim: EngineTimings, phase: str) -> list[str]:
    budget, gone = config.max_latency, dense.layers - slim.layers
    if budget is None:
        return []
    if budget.share_of_dense is not None:
        share, ratio = budget.share_of_dense, paired_ratio(dense.samples[phase], slim.samples[phase])
        if not _over(ratio.ratio, ratio.high, share, (1 - ratio.ratio) / gone):
            return []
        return [f"{100 * ratio.ratio:.1f} % of dense (up to {100 * ratio.high:.1f} %) of {100 * share:g} %"]
    latency, whole = summarise(slim.samples[phase]), summarise(dense.samples[phase])
    bound = budget.resolve_ms(whole.median_ms)
    if not _over(latency.median_ms, latency.high_ms, bound, (whole.median_ms - latency.median_ms) / gone):
        return []
    return [f"{format_ms(latency.median_ms)} (up to {format_ms(latency.high_ms)}) of {format_ms(bound)}"]


def _token(config: Config, dense: EngineTimings, slim: EngineTimings) -> list[str]:
    bound = config.max_token_latency_ms
    if bound is None:
        return []
    token, before = summarise(slim.samples["token"]), summarise(dense.samples["token"])
    layer_ms = (before.median_ms - token.median_ms) / (dense.layers - slim.layers)
    if not _over(token.median_ms, token.high_ms, bound, layer_ms):
        return []
    return [f"{format_ms(token.median_ms)} per token of {format_ms(bound)}"]


def _memory(config: Config, slim: EngineTimings) -> list[str]:
    bound, footprint = config.max_memory_bytes, slim.footprint
    if bound is None or footprint is None or footprint.peak_bytes <= bound:
        return []
    return [f"{format_bytes(footprint.peak_bytes)} of memory at its peak of {format_bytes(bound)}"]


def _over(value: float, high: float, bound: float, one_layer: float) -> bool:
    return (high if high - value <= one_layer else value) > bound
