"""One number that a user measured on the board: `ttft=231ms@layers=28`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.predict.cost import published
from topovlm.predict.data_sheet import timed_phases
from topovlm.predict.knowledge import Knowledge
from topovlm.predict.target import ResolvedTarget
from topovlm.predict.weight_formats import weight_format
from topovlm.units import parse_duration_ms, spell_ms
from topovlm.workload import Workload

FIELD = "--observed"
_FORM = re.compile(r"(?P<what>[a-z]+)=(?P<time>[^@=]+)(@layers=(?P<layers>\d+))?")
_REMEDY = "e.g. ttft=231ms@layers=28"
# What a figure is the sum of.
FIGURES = {
    "ttft": ("vision", "prefill"),
    "vision": ("vision",),
    "prefill": ("prefill",),
    "token": ("decode",),
}
# Runs of one board differ by about this; a figure is trusted to no less (one standard deviation).
_NOISE = 0.015


@dataclass(frozen=True)
class Observed:
    """A measured latency of the plan's own model, workload, format and runtime, with so many layers kept."""

    what: str
    ms: float
    layers: int | None = None  # all of them

    def __str__(self) -> str:
        return f"{self.what}={spell_ms(self.ms)}" + ("" if self.layers is None else f"@layers={self.layers}")


def parse_observed(text: str) -> Observed:
    """From what was typed. Raises `InputError`."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found["what"] not in FIGURES:
        rule = f"must be FIGURE=TIME[@layers=N] with a figure of {', '.join(FIGURES)}"
        raise InputError(explain(FIELD, text, rule, _REMEDY))
    layers = None if found["layers"] is None else int(found["layers"])
    return Observed(found["what"], parse_duration_ms(found["time"], FIELD), layers)


def observing(
    measured: tuple[Observed, ...],
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    dtype: str,
    *,
    runtime: str,
    noise: float = _NOISE,
    knowledge: Knowledge | None = None,
) -> Knowledge:
    """What is known after the measurements. Raises `InputError` for one that cannot be of this request."""
    known = knowledge or published()
    for each in measured:
        keep = shape.total_layers if each.layers is None else each.layers
        if not 1 <= keep <= shape.total_layers:
            rule = f"must lie between 1 and the model's {shape.total_layers} layers"
            raise InputError(explain(f"{FIELD} layers", keep, rule))
        timed = timed_phases(
            shape, workload, target, keep=keep, fmt=weight_format(dtype), runtime=runtime, knowledge=known
        )
        parts = [timed[phase].estimate for phase in FIGURES[each.what] if phase in timed]
        estimates = tuple(part for part in parts if part is not None)
        if not estimates:
            rule = (
                "there is no such phase here" if not parts else "the target file gives this board's constants"
            )
            raise InputError(explain(FIELD, each.what, rule, "Leave it out"))
        known = known.observing(estimates, each.ms / 1e3, noise)
    return known
