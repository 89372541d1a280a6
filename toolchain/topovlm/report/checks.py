"""What a comparison of two runs found: one record per check, and all of them together."""

from __future__ import annotations

from typing import Literal

from topovlm.records import Part

Verdict = Literal["pass", "regressed", "inconclusive"]


class GateCheck(Part, frozen=True, kw_only=True):
    """One comparison. `change` is run - baseline (shares) or run / baseline (ratio), one-sided bounds."""

    name: str
    verdict: Verdict
    text: str
    unit: str = ""
    run: float | None = None
    baseline: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    tolerance: float | None = None


class CheckResult(Part, frozen=True, kw_only=True):
    """All comparisons of a run with its baseline; `notes` say what else differs between the two."""

    regressed: bool  # at least one check did
    run: str
    baseline: str
    checks: tuple[GateCheck, ...]
    notes: tuple[str, ...] = ()
