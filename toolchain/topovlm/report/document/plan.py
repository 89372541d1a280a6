"""What was asked for, and the plan that answers it with predictions."""

from __future__ import annotations

from typing import Annotated, Literal

from topovlm.records import Strict
from topovlm.report.document.figures import VOLATILE, Amount, Count, Figure, Score


class Budget(Strict, frozen=True, kw_only=True):
    """What the user asked for; `latency_ms` is the bound that the latency budget resolved to.

    A latency budget is either `max_latency_ms` or `max_latency_share`, a share of the dense model's latency
    on the same target and workload.
    """

    max_latency_ms: Amount | None = None
    max_latency_share: Amount | None = None
    max_token_latency_ms: Amount | None = None
    max_memory_bytes: Count | None = None
    sparsity: Score | None = None
    latency_phase: Literal["ttft", "end_to_end"] = "ttft"
    latency_ms: Annotated[Amount | None, VOLATILE] = None  # a share of a measured dense latency is volatile

    def __post_init__(self) -> None:
        if self.max_latency_ms is not None and self.max_latency_share is not None:
            raise ValueError("max_latency_ms and max_latency_share exclude each other")

    @property
    def bounds_latency(self) -> bool:
        return self.max_latency_ms is not None or self.max_latency_share is not None


class PlanRow(Strict, frozen=True, kw_only=True):
    """Predicted figures with `kept` decoder layers, on the target, at the workload.

    `exceeds` names the limits (`latency`, `per-token`, `memory`) that the value breaks, `at_risk` those that
    only the upper end of its range breaks. A share of the dense latency is a share of the upper end there:
    what the predictor gets wrong, it gets wrong for both models.
    """

    kept: Count
    vision: Figure
    prefill: Figure
    token: Figure
    ttft: Figure
    total: Figure  # end to end: the first token and the workload's other new tokens
    memory: Figure
    exceeds: tuple[str, ...]
    at_risk: tuple[str, ...]
    fits: bool  # as a choice: the number of layers counts too


class FormatPoint(Strict, frozen=True, kw_only=True):
    """Central predictions in another weight format with `kept` layers; `latency_ms` is what is bounded."""

    dtype: str
    kept: Count
    latency_ms: Amount
    memory_bytes: Amount
    fits: bool


class Plan(Strict, frozen=True, kw_only=True):
    """Budget -> layers kept. `rows` hold one prediction per number of layers kept (dense included)."""

    verdict: Literal["dense", "prune", "infeasible"]
    keep_layers: Count
    total_layers: Count
    floor: str  # what binds: "vision", "decoder", "memory", or "none"
    floor_text: str
    predictor: Literal["published", "calibrated", "measured-here"]
    source: str
    rows: tuple[PlanRow, ...] = ()
    formats: tuple[FormatPoint, ...] = ()  # the same budget by weight format and layers, for boards
