"""The smallest parts of the document: one number with its unit and source, one workload, one target."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from topovlm.records import Strict

Phase = Literal["vision", "embed", "prefill", "token", "ttft", "end_to_end"]
PHASES: tuple[Phase, ...] = ("vision", "embed", "prefill", "token", "ttft", "end_to_end")
Kind = Literal["measured", "predicted"]
Which = Literal["dense", "slim"]
VOLATILE = msgspec.Meta(extra={"volatile": True}, extra_json_schema={"x-volatile": True})

Count = Annotated[int, msgspec.Meta(ge=0)]
Layer = Annotated[int, msgspec.Meta(ge=0)]  # 0-based position in the dense decoder
Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Figure(Strict, frozen=True, kw_only=True):
    """One number as shown; `low`..`high` is its interval, `n` the samples behind it.

    `confidence` belongs to intervals of samples. A prediction's range (the errors that its predictor showed
    where it was checked) claims none.
    """

    value: float
    unit: str
    kind: Kind
    source: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    confidence: float | None = None


class Target(Strict, frozen=True, kw_only=True):
    """The board (or machine) in one power mode that the run is for."""

    requested: str  # as typed, e.g. "jetson-orin"
    key: str  # what it resolved to, e.g. "jetson-agx-orin-64gb@maxn"
    board: str
    mode: str
    runtime: str  # what the plan is for, e.g. "onnxruntime-cpu"
    alias_of: str | None = None
    siblings: tuple[str, ...] = ()
    facts: Annotated[dict[str, str | float], VOLATILE] = msgspec.field(
        default_factory=dict
    )  # `key` says it all


class Workload(Strict, frozen=True, kw_only=True):
    """What one latency figure is for."""

    images: int
    image_height: int
    image_width: int
    visual_tokens: int  # of all images together
    prompt_tokens: int  # text and visual tokens of the prefill
    new_tokens: int = 1
    batch: int = 1
    dtype: str = "fp32"
