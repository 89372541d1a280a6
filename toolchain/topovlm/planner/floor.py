"""What stops a plan from keeping one more layer, in words and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topovlm.planner.limits import Limit
from topovlm.predict.cost import Prediction
from topovlm.units import format_bytes, format_ms

# From this share of a latency budget on, the tower is what a reader must know about.
_DOMINANT_SHARE = 0.5


@dataclass(frozen=True)
class Floor:
    """What stops one more layer: `vision`, `decoder`, `per-token`, `memory`, `sparsity` or `none`."""

    name: str
    text: str


def find_floor(
    predictions: Sequence[Prediction],
    limits: Sequence[Limit],
    keep: int | None,
    bounds: tuple[int, int],
    *,
    confident: bool,
) -> Floor:
    """Floor of a plan that keeps `keep` layers (None: infeasible) within `bounds` = (least, most) layers.

    `predictions[n - 1]` is for n layers. The limit that the next layer breaks most is the one that binds;
    an infeasible plan is judged at the fewest layers.
    """
    total, (least, most) = len(predictions), bounds
    if keep == total:
        return Floor("none", "nothing binds")
    if keep == most or most < least:
        text = f"the requested sparsity keeps at most {most} of {total} layers"
        return Floor("sparsity", text if most >= least else f"{text}, but {least} are protected")
    blocking = predictions[least - 1 if keep is None else keep]

    def excess(limit: Limit) -> float:
        found = limit.measure(blocking)
        over = found.value / limit.bound
        return max(over, found.high / limit.upper_bound) if confident else over

    return _describe(max(limits, key=excess), blocking, total)


def _describe(limit: Limit, blocking: Prediction, total: int) -> Floor:
    show = format_bytes if limit.name == "memory" else format_ms
    found = limit.measure(blocking)
    layers, over = f"{blocking.keep_layers} of {total} layers", show(found.value)
    if found.value <= limit.bound:  # the upper end alone breaks the limit
        over = f"{over} (up to {show(found.high)})"
    if limit.name == "memory":
        return Floor("memory", f"{layers} need {over} of the {limit.text}")
    bound, vision = format_ms(limit.bound), blocking.vision_ms.value
    if limit.name == "per-token":
        return Floor("per-token", f"{layers} take {over} per token, of {bound}")
    if vision < _DOMINANT_SHARE * limit.bound:
        return Floor("decoder", f"{layers} take {over}, of {bound}; vision {format_ms(vision)} of it")
    tower = f"the vision encoder alone takes {format_ms(vision)} of {bound}"
    if vision > limit.bound:
        tower = f"the vision encoder alone takes {format_ms(vision)}, the whole budget is {bound}"
    return Floor("vision", f"{tower}; with it, {layers} take {over}")
