"""report.json: the one data model behind the JSON, Markdown and HTML reports and behind `topovlm check`.

Conventions
- A `Figure` is one number with its unit, whether it was *measured* or *predicted*, an interval, the count
  behind it and its source. Shares and scores lie in 0..1 (unit "share"), their differences too.
- Budgets, limits and settings are typed values with their unit in the name; words for people are made on the
  way to the screen.
- Layer indices are 0-based positions in the dense decoder.
- Raw data travel with the summary: every question's two outcomes, every timing in ms.
- Fields marked `volatile` (wall-clock times, paths, timings, the machine) differ between two runs of the same
  inputs; they are left out of `topovlm.report.identity.content_hash` and carry `"x-volatile": true` in the
  JSON Schema (`report.schema.json` beside this package).
"""

from __future__ import annotations

from typing import Annotated

from topovlm.records import Strict
from topovlm.report.document.accuracy import Accuracy, Answer, CategoryAccuracy, Question
from topovlm.report.document.benchmarks import Benchmark
from topovlm.report.document.figures import (
    PHASES,
    VOLATILE,
    Figure,
    Kind,
    Phase,
    Target,
    Which,
    Workload,
)
from topovlm.report.document.latency import PEAK_MEMORY, Latency, MemoryUse, PhaseTimes
from topovlm.report.document.models import Artifact, Model, Verification, check, fact
from topovlm.report.document.origin import Environment, Provenance, Run, Setting, Stage
from topovlm.report.document.plan import Budget, FormatPoint, Plan, PlanRow
from topovlm.report.document.selection import Bars, Judge, LayerReason, Repair, ScorerSet, Selection

SCHEMA_VERSION = 2

__all__ = [
    "PEAK_MEMORY",
    "PHASES",
    "SCHEMA_VERSION",
    "VOLATILE",
    "Accuracy",
    "Answer",
    "Artifact",
    "Bars",
    "Benchmark",
    "Budget",
    "CategoryAccuracy",
    "Environment",
    "Figure",
    "FormatPoint",
    "Judge",
    "Kind",
    "Latency",
    "LayerReason",
    "MemoryUse",
    "Model",
    "Phase",
    "PhaseTimes",
    "Plan",
    "PlanRow",
    "Provenance",
    "Question",
    "Repair",
    "Report",
    "Run",
    "ScorerSet",
    "Selection",
    "Setting",
    "Stage",
    "Target",
    "Verification",
    "Which",
    "Workload",
    "check",
    "fact",
    "phase_times",
    "plan_row",
]


class Report(Strict, frozen=True, kw_only=True):
    """The document. `slim` and `selection` are None when the dense model fits and nothing was pruned."""

    schema_version: int
    topovlm_version: str
    title: str
    target: Target
    workload: Workload
    budget: Budget
    plan: Plan
    dense: Model
    provenance: Provenance
    run: Run
    environment: Annotated[Environment, VOLATILE]
    slim: Model | None = None
    selection: Selection | None = None
    accuracy: Accuracy | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    latency: Annotated[Latency | None, VOLATILE] = None
    artifacts: tuple[Artifact, ...] = ()
    verifications: tuple[Verification, ...] = ()

    def __post_init__(self) -> None:
        if len({one.name for one in self.benchmarks}) < len(self.benchmarks):
            raise ValueError("a benchmark is there twice")


def plan_row(report: Report, model: Which) -> PlanRow | None:
    """The plan's prediction for the dense model or for the slim one; None where the plan has no such row."""
    if model == "slim" and report.slim is None:
        return None
    kept = report.dense.layers if model == "dense" or report.slim is None else report.slim.layers
    return next((row for row in report.plan.rows if row.kept == kept), None)


def phase_times(report: Report, phase: str) -> PhaseTimes | None:
    """The measured phase of that name, or None when it was not timed."""
    phases = report.latency.phases if report.latency else ()
    return next((p for p in phases if p.phase == phase), None)
