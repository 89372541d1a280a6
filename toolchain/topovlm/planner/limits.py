"""Budgets as the user states them, resolved to limits on predicted figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from topovlm.errors import InputError, explain
from topovlm.predict.cost import Prediction
from topovlm.predict.prediction_interval import PredictionInterval
from topovlm.predict.target import ResolvedTarget
from topovlm.units import LatencyBudget, format_bytes, format_ms
from topovlm.workload import Workload

Figure = Literal["ttft_ms", "total_ms", "token_ms", "memory_bytes"]  # what can be limited


@dataclass(frozen=True)
class Budgets:
    """What must be met. `sparsity`: share of decoder layers that must go at least."""

    max_latency: LatencyBudget | None = None
    max_token_latency_ms: float | None = None
    max_memory_bytes: int | None = None
    sparsity: float | None = None

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise InputError(explain("--sparsity", self.sparsity, "must lie between 0 and 1 (1 excluded)"))
        for field in ("max_token_latency_ms", "max_memory_bytes"):
            value = getattr(self, field)
            if value is not None and value <= 0:
                raise InputError(explain(field, value, "must be more than zero"))


@dataclass(frozen=True)
class Limit:
    """One budget, resolved: `bound` applies to central values, `upper_bound` to upper interval ends."""

    name: str
    figure: Figure
    bound: float
    upper_bound: float
    text: str

    def measure(self, prediction: Prediction) -> PredictionInterval:
        """The figure of a prediction that this limit bounds."""
        figures: dict[Figure, PredictionInterval] = {
            "ttft_ms": prediction.ttft_ms,
            "total_ms": prediction.total_ms,
            "token_ms": prediction.token_ms,
            "memory_bytes": prediction.memory_bytes,
        }
        return figures[self.figure]


def latency_name(workload: Workload) -> str:
    """What a latency budget bounds at this workload."""
    if workload.new_tokens == 1:
        return "time to first token"
    return f"end to end ({workload.new_tokens} new tokens)"


def latency_of(prediction: Prediction, workload: Workload) -> PredictionInterval:
    """The figure that a latency budget bounds, ms."""
    return prediction.ttft_ms if workload.new_tokens == 1 else prediction.total_ms


def most_layers(total: int, sparsity: float | None) -> int:
    """Most layers that may stay; guards against 0.3 x 10 being a hair above 3."""
    most = total - math.ceil((sparsity or 0.0) * total - 1e-9)
    if most < 1:
        raise InputError(explain("--sparsity", sparsity, f"would leave none of {total} layers"))
    return most


def resolve_limits(
    budgets: Budgets, dense: Prediction, workload: Workload, target: ResolvedTarget
) -> tuple[Limit, ...]:
    """Latency, per-token and memory limits; the board's memory always counts."""
    limits = []
    if budgets.max_latency is not None:
        figure: Figure = "ttft_ms" if workload.new_tokens == 1 else "total_ms"
        latency = latency_of(dense, workload)
        bound = budgets.max_latency.resolve_ms(latency.value)
        text = f"{latency_name(workload)} at most {format_ms(bound)}"
        if budgets.max_latency.absolute_ms is None:
            text += f" ({budgets.max_latency})"
        limits.append(Limit("latency", figure, bound, budgets.max_latency.resolve_ms(latency.high), text))
    if budgets.max_token_latency_ms is not None:
        bound = budgets.max_token_latency_ms
        limits.append(Limit("per-token", "token_ms", bound, bound, f"each token at most {format_ms(bound)}"))
    usable = target.usable_memory_bytes()
    bound = min(usable, budgets.max_memory_bytes or usable)
    whose = "of the budget" if bound < usable else f"that {target.board.id} leaves free"
    limits.append(Limit("memory", "memory_bytes", bound, bound, f"{format_bytes(bound)} {whose}"))
    return tuple(limits)
