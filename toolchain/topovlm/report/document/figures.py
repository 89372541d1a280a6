"""The smallest parts of the document: one number with its unit and source, one workload, one target."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from topovlm.records import Strict

Phase = Literal["vision", "embed", "prefill", "token", "ttft", "end_to_end"]
PHASES: tuple[Phase, ...] = ("vision", "embed", "prefill", "token", "ttft", "end_to_end")
Kind = Literal["measured", "predicted"]
Which = Literal["dense", "slim"]
_POSITIVE = ("ms", "bytes")
VOLATILE = msgspec.Meta(extra={"volatile": True}, extra_json_schema={"x-volatile": True})

_MOST = 10**18  # of anything that is counted or measured here; floats and plots still hold it
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Layer = Annotated[int, msgspec.Meta(ge=0, le=2**20)]  # 0-based position in the dense decoder
Amount = Annotated[float, msgspec.Meta(ge=0, le=_MOST)]
Number = Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Figure(Strict, frozen=True, kw_only=True):
    """One number as shown; `low`..`high` is its interval, `n` the samples behind it.

    `confidence` belongs to intervals of samples. A prediction's range (the errors that its predictor showed
    where it was checked) claims none.
    """

    value: Number
    unit: str
    kind: Kind
    source: str
    low: Number | None = None
    high: Number | None = None
    n: Count | None = None
    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval is reversed: {self.low:g} to {self.high:g}")
        if self.unit in _POSITIVE and self.value < 0:
            raise ValueError(f"{self.value:g} {self.unit} cannot be: it is less than nothing")


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

    images: Count
    image_height: Count
    image_width: Count
    visual_tokens: Count  # of all images, or of all frames, together
    prompt_tokens: Count  # text and visual tokens of the prefill
    new_tokens: Count = 1
    batch: Count = 1
    dtype: str = "fp32"
    video_frames: Count = 0  # of one video, of that size
