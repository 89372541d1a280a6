"""Rows held out by board, by model and by runtime version; intervals calibrated on how they were missed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from benchmarks.predictor_fit.hierarchy import Array, fit_phase
from benchmarks.predictor_fit.robust import conformal, digits
from benchmarks.predictor_fit.rows import PhaseRow
from topovlm.predict.efficiencies import HeldOut, PhaseFit
from topovlm.predict.knowledge import Estimate, Knowledge
from topovlm.predict.levels import unlinked
from topovlm.predict.phases import PHASES

# What is left out at a time.
GROUPS: dict[str, Callable[[PhaseRow], str]] = {
    "board": lambda row: row.board,
    "model": lambda row: row.model,
    "version": lambda row: row.version if row.setting.version else "",
}
NEARNESS = ("seen", "kin", "far")
COVERAGE = 0.9
_RANKED = 9  # groups that a conformal rank of nine in ten needs
# Nearness -> what is left out to calibrate its intervals; how many groups give a runtime its own factor.
_CALIBRATES = {"seen": ("model", 3), "kin": ("board", 5), "far": ("board", 5)}


@dataclass(frozen=True)
class Judged:
    """A held-out row: log of predicted over published, deviation claimed, how near the nearest rows were."""

    row: PhaseRow
    group: str
    error: float
    deviation: float
    nearness: str
    factor: float

    @property
    def score(self) -> float:
        """By how many of the claimed deviations it was missed."""
        return abs(self.error) / self.deviation


def fit_phases(rows: Sequence[PhaseRow], phases: Collection[str] = PHASES) -> dict[str, PhaseFit]:
    """A fit of every phase asked for that has rows; decode too wherever prefill is, which uses its share."""
    by_phase = {phase: [row for row in rows if row.phase == phase] for phase in PHASES}
    found: dict[str, PhaseFit] = {}
    if by_phase["decode"] and {"decode", "prefill"} & {*phases}:
        found["decode"] = fit_phase(by_phase["decode"]).fit
    if by_phase["prefill"] and "prefill" in phases and "decode" in found:
        shares = _shares(found["decode"], by_phase["prefill"])
        found["prefill"] = fit_phase(by_phase["prefill"], shares).fit
    if by_phase["vision"] and "vision" in phases:
        found["vision"] = fit_phase(by_phase["vision"]).fit
    return found


def _shares(decode: PhaseFit, rows: Sequence[PhaseRow]) -> Array:
    knowledge = Knowledge({"decode": decode})
    return np.array([bandwidth_share(knowledge, row) for row in rows])


def bandwidth_share(knowledge: Knowledge, row: PhaseRow) -> float:
    """Of peak bandwidth, as decode has it."""
    return unlinked("bandwidth_share", knowledge.known("decode", row.setting).values["bandwidth_share"])


def predicted(knowledge: Knowledge, row: PhaseRow) -> Estimate:
    """What a plan would say of the row's board, runtime and workload."""
    given = {"bandwidth_share": bandwidth_share(knowledge, row)} if row.phase == "prefill" else None
    return knowledge.estimate(row.phase, row.setting, row.work, row.machine, given)


def judge(knowledge: Knowledge, rows: Iterable[PhaseRow], group: str = "") -> list[Judged]:
    """Rows under given coefficients."""
    found = []
    for row in rows:
        if row.phase in knowledge.fits:
            estimate = predicted(knowledge, row)
            known = estimate.known
            error = math.log(estimate.seconds / row.seconds)
            found.append(Judged(row, group, error, estimate.deviation, known.nearness, known.factor))
    return found


def hold_out(rows: Sequence[PhaseRow], kind: str, only: Collection[str] | None = None) -> list[Judged]:
    """Leave one group (of `only`, else every one) out at a time, fit everything else, predict the group."""
    group_of = GROUPS[kind]
    judged = []
    for name in sorted({group_of(row) for row in rows} - {""} if only is None else only):
        held = [row for row in rows if group_of(row) == name]
        rest = [row for row in rows if group_of(row) != name]
        judged += judge(Knowledge(fit_phases(rest, {row.phase for row in held})), held, f"{kind} {name}")
    return judged


def calibrated(fits: Mapping[str, PhaseFit], judged: Sequence[Judged]) -> dict[str, PhaseFit]:
    """The fits with interval factors that would have covered nine in ten of the held-out rows as near."""
    return {
        phase: msgspec.structs.replace(fit, factor=_factors(judged, phase, sorted(fit.misfit)))
        for phase, fit in fits.items()
    }


def _factors(judged: Sequence[Judged], phase: str, runtimes: Sequence[str]) -> dict[str, float]:
    """By nearness, and by nearness and runtime where enough groups tell."""
    found = {}
    for near in NEARNESS:
        found[near] = digits(_factor(_alike(judged, phase, near), near))
        for runtime in runtimes:
            alike = _alike(judged, phase, near, runtime)
            if all((each.row.setting.runtime, each.nearness) == (runtime, near) for each in alike):
                found[f"{near}/{runtime}"] = digits(_factor(alike, near))
    return found


def _alike(judged: Sequence[Judged], phase: str, near: str, runtime: str = "") -> list[Judged]:
    """Rows to calibrate on: as near, of the runtime if those are of enough groups; else all of the phase.

    What a plan meets on a board with rows is a new model; elsewhere, a new board.
    """
    kind, enough = _CALIBRATES[near]
    of_phase = [each for each in judged if each.row.phase == phase and each.group.startswith(kind)]
    as_near = [each for each in of_phase if each.nearness == near]
    own = [each for each in as_near if each.row.setting.runtime == runtime]
    return own if len({each.group for each in own}) >= enough else as_near or of_phase


def _factor(judged: Sequence[Judged], near: str) -> float:
    """Rows of one board are missed together (far from all rows: of one board with one runtime); those of a
    model on many boards are not.

    Families and runtimes that stand alone are few, and their claimed deviations wide: where they are too few
    for a conformal rank, they are not stretched further.
    """
    scores = [(each.score, _together(each, near, at)) for at, each in enumerate(judged)]
    ranked = len({group for _, group in scores}) >= _RANKED
    return conformal(scores, COVERAGE, one_more=near != "far" or ranked)


def _together(judged: Judged, near: str, at: int) -> str:
    if near == "seen":
        return str(at)
    return f"{judged.group} {judged.row.setting.runtime}" if near == "far" else judged.group


def covered(some: Sequence[Judged], everything: Sequence[Judged]) -> list[bool]:
    """Whether each interval holds its row, its factor calibrated without the row's own group."""
    factors: dict[tuple[str, str, str, str], float] = {}
    found = []
    for each in some:
        key = each.row.phase, each.nearness, each.row.setting.runtime, each.group
        if key not in factors:
            others = [other for other in everything if other.group != each.group]
            factors[key] = _factor(_alike(others, *key[:3]), each.nearness)
        found.append(each.score <= factors[key])
    return found


def figures(judged: Sequence[Judged], hits: Sequence[bool]) -> HeldOut:
    """Quantiles of the relative errors, and the share that the intervals held."""
    errors = [abs(math.expm1(each.error)) for each in judged]
    return HeldOut(
        rows=len(judged),
        median=round(float(np.median(errors)), 4),
        p90=round(float(np.quantile(errors, 0.9)), 4),
        covered=round(sum(hits) / len(hits), 3),
    )
