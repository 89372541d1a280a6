"""One phase's constants from rows: sums of effects, shrunk where rows are few, with their covariance.

Every row's constants are sums over levels (`topovlm.predict.levels`). Effects have a normal prior around
nothing whose width belongs to the level; widths and the misfit of the form are found from the rows too, by
alternating them with the effects (EM, with a weak prior of their own, so that a level of two members keeps a
width). What is minimised is robust in both: a mislabelled row must not steer, and one board may stand apart
(soft L1, `scipy.optimize.least_squares`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.predictor_fit.robust import digits
from benchmarks.predictor_fit.rows import PhaseRow
from topovlm.predict.efficiencies import Effect, PhaseFit, Support
from topovlm.predict.levels import CAP, CENTRE, level_of, levels, linked
from topovlm.predict.phases import CONSTANTS, FORMS, Machine, Work

Array = NDArray[np.float64]
# Before any row is seen: what a level is expected to change, relative to what a constant may be off by.
_WIDTHS = {
    "all": 0.4,
    "engine": 0.2,
    "runtime": 0.2,
    "format": 0.15,
    "width": 0.15,
    "kind": 0.2,
    "family": 0.15,
    "arch": 0.1,
    "memory": 0.25,
    "board": 0.06,
    "combination": 0.15,
    "release": 0.1,
    "version": 0.1,
}
_LOOSENESS = {
    "efficiency": 1.0,
    "layer_clocks": 2.0,
    "attention_cost": 1.5,
    "chain_clocks": 3.0,
    "bandwidth_share": 1.0,
    "bytes_per_sm_clock": 2.0,
}
_MISFIT = 0.05
_WEIGHT_OF_PRIOR = 4  # members of a level, or rows, that the expectations above are worth
_ROUNDS = 4
_ROBUST = 1.5  # standard deviations beyond which a residual counts linearly
_STEP = 1e-5


@dataclass(frozen=True)
class Fitted:
    """A phase as stored, and what the fit leaves of its own rows (log of predicted over published)."""

    fit: PhaseFit
    residuals: Array


def fit_phase(rows: Sequence[PhaseRow], bandwidth_shares: Array | None = None) -> Fitted:
    """Fit rows of one phase; prefill takes the `bandwidth_shares` that decode gives its rows."""
    design = _Design(rows, bandwidth_shares)
    widths = {
        name: _WIDTHS[name.partition(":")[2]] * _LOOSENESS[name.partition(":")[0]] for name in design.levels
    }
    expected = dict(widths)
    misfit = dict.fromkeys(design.runtimes, _MISFIT)
    effects = np.zeros(len(design.names))
    for _ in range(_ROUNDS):
        deviations = np.array([misfit[row.setting.runtime] for row in rows])
        prior = np.array([widths[name] for name in design.levels])
        effects = _solve(design, effects, deviations, prior)
        predicted, slopes = design.slopes(effects)
        residuals = predicted - design.published
        weight = 1 / np.sqrt(1 + (residuals / deviations / _ROBUST) ** 2)
        hessian = (slopes * (weight / deviations**2)[:, None]).T @ slopes + np.diag(1 / prior**2)
        covariance = np.linalg.inv(hessian)
        widths = _level_widths(design, effects, covariance, expected)
        misfit = _misfits(design, residuals, weight)
    fit = PhaseFit(
        phase=rows[0].phase,
        effects=tuple(
            Effect(constant, level, digits(float(value)))
            for (constant, level), value in zip(design.names, effects, strict=True)
        ),
        covariance=tuple(
            " ".join(f"{value:.4g}" if abs(value) > 1e-7 else "0" for value in covariance[at, : at + 1])
            for at in range(len(design.names))
        ),
        widths={name: digits(width) for name, width in sorted(_every_width(widths, rows[0].phase).items())},
        misfit={name: digits(value) for name, value in sorted(misfit.items())},
        misfit_elsewhere=digits(max(misfit.values())),
        factor=dict.fromkeys(("seen", "kin", "far"), 1.645),  # until held-out rows say otherwise
        support=_support(rows),
    )
    return Fitted(fit, residuals)


class _Design:
    """Which effects each row's constants are sums of, and the form on all rows at once."""

    def __init__(self, rows: Sequence[PhaseRow], bandwidth_shares: Array | None) -> None:
        self.phase = rows[0].phase
        self.published = np.log([row.seconds for row in rows])
        self.runtimes = sorted({row.setting.runtime for row in rows})
        self._runtime_of = [row.setting.runtime for row in rows]
        index: dict[tuple[str, str], int] = {}
        found = {
            constant: [levels(row.setting, self.phase, constant) for row in rows]
            for constant in CONSTANTS[self.phase]
        }
        for constant, of_rows in found.items():
            for level in sorted({level for of_row in of_rows for level in of_row}):
                index.setdefault((constant, level), len(index))
        self.names = tuple(index)
        self.levels = tuple(f"{constant}:{level_of(level)}" for constant, level in self.names)
        self._sums = {constant: np.zeros((len(rows), len(index))) for constant in found}
        for constant, of_rows in found.items():
            for at, of_row in enumerate(of_rows):
                for level in of_row:
                    self._sums[constant][at, index[constant, level]] = 1.0
        self._work = Work(**{name: _column(rows, "work", name) for name in Work.__dataclass_fields__})
        self._machine = Machine(
            **{name: _column(rows, "machine", name) for name in Machine.__dataclass_fields__}
        )
        self._given = {} if bandwidth_shares is None else {"bandwidth_share": bandwidth_shares}

    def of_runtime(self, runtime: str) -> Array:
        """Which rows are of it, as a mask."""
        return np.array([name == runtime for name in self._runtime_of])

    def slopes(self, effects: Array) -> tuple[Array, Array]:
        """Logarithm of each row's time, and how it changes with every effect."""
        at = {
            constant: linked(constant, CENTRE[constant][0]) + sums @ effects
            for constant, sums in self._sums.items()
        }
        here = self._log_s(at)
        slopes = np.zeros((len(here), len(effects)))
        for constant, sums in self._sums.items():
            moved = self._log_s({**at, constant: at[constant] + _STEP})
            slopes += ((moved - here) / _STEP)[:, None] * sums
        return here, slopes

    def _log_s(self, values: Mapping[str, Array]) -> Array:
        constants = {name: unlinked_rows(name, value) for name, value in values.items()}
        seconds = FORMS[self.phase]({**constants, **self._given}, self._work, self._machine)
        return np.asarray(np.log(seconds), float)


def unlinked_rows(constant: str, values: Array) -> Array:
    """`topovlm.predict.levels.unlinked` of every row."""
    bounded = np.clip(values, -60, 60)
    return (1 + np.exp(-CAP * bounded)) ** (-1 / CAP) if CENTRE[constant][1] else np.exp(bounded)


def _column(rows: Sequence[PhaseRow], part: str, name: str) -> Array:
    return np.array([getattr(getattr(row, part), name) for row in rows], float)


def _solve(design: _Design, start: Array, deviations: Array, prior: Array) -> Array:
    """Effects at the robust optimum."""

    def residuals(effects: Array) -> Array:
        predicted, _ = design.slopes(effects)
        return np.concatenate([(predicted - design.published) / deviations, effects / prior])

    def jacobian(effects: Array) -> Array:
        _, slopes = design.slopes(effects)
        return np.vstack([slopes / deviations[:, None], np.diag(1 / prior)])

    found = least_squares(residuals, start, jacobian, loss="soft_l1", f_scale=_ROBUST, max_nfev=40)
    return np.asarray(found.x, float)


def _level_widths(
    design: _Design, effects: Array, covariance: Array, expected: Mapping[str, float]
) -> dict[str, float]:
    """Root mean square of each level's effects, their own uncertainty included."""
    widths = {}
    for name, before in expected.items():
        at = [i for i, level in enumerate(design.levels) if level == name]
        if name.endswith(":all"):
            widths[name] = before
            continue
        squares = sum(float(effects[i] ** 2 + covariance[i, i]) for i in at)
        widths[name] = math.sqrt((squares + _WEIGHT_OF_PRIOR * before**2) / (len(at) + _WEIGHT_OF_PRIOR))
    return widths


def _misfits(design: _Design, residuals: Array, weight: Array) -> dict[str, float]:
    found = {}
    for runtime in design.runtimes:
        mask = design.of_runtime(runtime)
        squares = float((weight * residuals**2)[mask].sum())
        found[runtime] = math.sqrt(
            (squares + _WEIGHT_OF_PRIOR * _MISFIT**2) / (int(mask.sum()) + _WEIGHT_OF_PRIOR)
        )
    return found


def _every_width(found: Mapping[str, float], phase: str) -> dict[str, float]:
    """Also of levels that no row of this fit has, for settings that have them."""
    return {
        f"{constant}:{level}": found.get(f"{constant}:{level}", width * _LOOSENESS[constant])
        for constant in CONSTANTS[phase]
        for level, width in _WIDTHS.items()
    }


def _support(rows: Sequence[PhaseRow]) -> tuple[Support, ...]:
    groups: dict[tuple[str, str, str, str, str], list[PhaseRow]] = {}
    for row in rows:
        of = row.setting
        groups.setdefault((of.family, of.board, of.runtime, of.version, of.width), []).append(row)
    return tuple(
        Support(
            *key,
            len(members),
            digits(min(row.layer_params for row in members)),
            digits(min(row.machine.sm_hz / row.machine.bandwidth_bytes_per_s for row in members)),
        )
        for key, members in sorted(groups.items())
    )
