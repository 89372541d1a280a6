"""A plan as it is stored, read back, and printed by `topovlm plan --json`."""

from __future__ import annotations

from typing import Literal

import msgspec

from topovlm.planner.floor import Floor
from topovlm.planner.limits import Budgets
from topovlm.predict.memory import MemoryEstimate
from topovlm.predict.prediction_interval import PredictionInterval
from topovlm.predict.target import TargetFacts
from topovlm.records import Part
from topovlm.workload import Workload

__all__ = [
    "SCHEMA",
    "FormatPlan",
    "FormatPoint",
    "PlanRecord",
    "PlanRow",
    "PredictionInterval",
    "Verdict",
]

SCHEMA = 1
Verdict = Literal["dense", "prune", "infeasible"]


class PlanRow(Part, frozen=True, kw_only=True):
    """One number of layers, its figures to four significant digits.

    `exceeds`: limits that the central value breaks; `at_risk`: those that only the upper end does.
    `memory_parts`: None where a profile measured the whole.
    """

    keep_layers: int
    dtype: str
    runtime: str
    vision_ms: PredictionInterval
    prefill_ms: PredictionInterval
    token_ms: PredictionInterval
    ttft_ms: PredictionInterval
    total_ms: PredictionInterval
    memory_bytes: PredictionInterval
    memory_parts: MemoryEstimate | None
    kind: Literal["predicted"]
    source: str
    fits: bool
    fits_confidently: bool
    exceeds: tuple[str, ...]
    at_risk: tuple[str, ...]


class FormatPoint(Part, frozen=True, kw_only=True):
    """One weight format and number of layers: central latency (of the kind that is budgeted) and memory."""

    dtype: str
    kept: int
    latency_ms: float
    memory_bytes: float
    fits: bool


class FormatPlan(Part, frozen=True, kw_only=True):
    """What the same budget leaves in one weight format."""

    verdict: Verdict
    keep_layers: int | None
    source: str
    points: tuple[FormatPoint, ...]


class PlanRecord(Part, frozen=True, kw_only=True):
    """The answer: `keep_layers` and `drop_count` are None when infeasible; `rows[n - 1]` keeps n layers.

    `runtime_version`: what the figures speak for ("": the rows name none).
    `budget_ms`: the latency budget, resolved; `workload.visual_tokens`: as counted; `formats`: by weight
    format, where they were compared.
    """

    schema: int = SCHEMA
    verdict: Verdict
    total_layers: int
    min_layers: int
    keep_layers: int | None
    drop_count: int | None
    floor: Floor
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    summary: str
    budgets: Budgets
    budget_ms: float | None
    latency_name: str
    confident: bool
    dtype: str
    runtime: str
    runtime_version: str = ""
    kind: Literal["predicted"]
    source: str
    target: TargetFacts
    workload: Workload
    rows: tuple[PlanRow, ...]
    formats: dict[str, FormatPlan] = msgspec.field(default_factory=dict)
