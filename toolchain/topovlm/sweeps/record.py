"""sweep.json: what a sweep was asked, and a row for each combination that has ended."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Literal

from topovlm.machine.environment import cpu_name
from topovlm.records import Part
from topovlm.report.document import Figure

if TYPE_CHECKING:
    from topovlm.failures import Failure
    from topovlm.pipeline.record import Deployment
    from topovlm.report.document import Report
    from topovlm.sweeps.combinations import Combination

SCHEMA = 1
SWEEP_FILE, SWEEP_TABLE = "sweep.json", "sweep.md"


class Ended(Part, frozen=True, kw_only=True):
    """Why a combination was not deployed. `kind`: of the error, as `topovlm.errors` names it."""

    kind: str
    message: str


class Row(Part, frozen=True, kw_only=True):
    """One combination. `run`: its run directory, below the sweep's; `model`, `target`, `budget`: as typed.

    `latency`: time to first token of what was deployed, on the target: measured there, else predicted.
    `dense`, `slim`: accuracy, measured on the exported graphs; `difference`: slim - dense, paired. None where
    there is no such figure. `node`, `cpu`: where it was computed.
    """

    run: str
    model: str
    target: str | None
    budget: dict[str, str]
    verdict: Literal["dense", "prune", "infeasible", "failed"]
    total_layers: int | None = None
    keep_layers: int | None = None
    dropped: tuple[int, ...] = ()
    latency: Figure | None = None
    dense: Figure | None = None
    slim: Figure | None = None
    difference: Figure | None = None
    content_hash: str = ""
    ended: Ended | None = None
    node: str
    cpu: str
    wall_s: float

    @property
    def deployed(self) -> bool:
        return self.ended is None


class Sweep(Part, frozen=True, kw_only=True):
    """`combinations`: how many were asked for; with fewer rows the sweep was ended, or still runs."""

    schema: int = SCHEMA
    topovlm: str
    argv: tuple[str, ...]
    output: str
    combinations: int
    rows: tuple[Row, ...]
    wall_s: float


def deployed_row(combination: Combination, outcome: Deployment, report: Report | None, wall_s: float) -> Row:
    """The row of a deployment; without a report (`--until`) it has no figures."""
    from topovlm.report.budgets import deployed_phase

    overall = report.accuracy.overall if report and report.accuracy else None
    return Row(
        run=combination.name,
        model=combination.config.model,
        target=combination.config.target,
        budget=combination.budget,
        verdict=outcome.verdict,
        total_layers=outcome.total_layers,
        keep_layers=outcome.keep_layers,
        dropped=outcome.dropped,
        latency=deployed_phase(report, "ttft") if report else None,
        dense=overall.dense if overall else None,
        slim=overall.slim if overall else None,
        difference=overall.difference if overall else None,
        content_hash=outcome.content_hash,
        node=platform.node(),
        cpu=cpu_name(),
        wall_s=round(wall_s, 3),
    )


def failed_row(combination: Combination, found: Failure, wall_s: float) -> Row:
    """The row of a combination that was not deployed."""
    return Row(
        run=combination.name,
        model=combination.config.model,
        target=combination.config.target,
        budget=combination.budget,
        verdict="infeasible" if found.kind == "BudgetError" else "failed",
        ended=Ended(kind=found.kind, message=found.message),
        node=platform.node(),
        cpu=cpu_name(),
        wall_s=round(wall_s, 3),
    )
