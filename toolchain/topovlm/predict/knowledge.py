"""What is known of a board's constants: the fit to published rows, corrected by a user's own measurements.

Effects of levels (`predict.levels`) are jointly normal on the scale that they add up on. A measurement moves
every effect that it depends on, in proportion to what it tells of it (one Kalman step), so that other depths,
formats and modes of the board move with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from topovlm.predict.efficiencies import Coefficients, PhaseFit
from topovlm.predict.levels import CENTRE, Setting, level_of, levels, linked, unlinked
from topovlm.predict.phases import CONSTANTS, FASTER, FORMS, Machine, Work

_STEP = 1e-4
_REACH = 2.0  # standard deviations
_MISFIT = "misfit"
Name = tuple[str, str, str]  # phase, constant, level


@dataclass(frozen=True)
class Known:
    """A phase's constants: `values` on their linked scale, `covariance` with the misfit of the form.

    `missed`: the logarithm of the factor by which measurements of this very use found the form to be off.
    """

    phase: str
    setting: Setting
    names: Mapping[str, tuple[Name, ...]]
    values: Mapping[str, float]
    covariance: Mapping[tuple[str, str], float]
    nearness: str
    factor: float
    missed: float
    unseen: tuple[str, ...]

    @cached_property
    def constants(self) -> dict[str, float]:
        """The constants themselves."""
        return {name: unlinked(name, value) for name, value in self.values.items()}

    @cached_property
    def slower(self) -> dict[str, tuple[float, float]]:
        """Each constant as much slower as it may well be, and that step on its linked scale."""
        found = {}
        for name, value in self.values.items():
            deviation = math.sqrt(max(0.0, self.covariance[name, name]))
            step = max(_STEP, _REACH * deviation) * (-1 if name in FASTER else 1)
            found[name] = unlinked(name, value + step), step
        return found


@dataclass(frozen=True)
class Estimate:
    """Seconds, how their logarithm changes with each constant, and its standard deviation."""

    known: Known
    seconds: float
    slopes: Mapping[str, float]
    deviation: float

    @property
    def spread(self) -> float:
        """The interval is the value divided and multiplied by 1 + spread."""
        return math.expm1(min(self.known.factor * self.deviation, 20.0))


@dataclass(frozen=True)
class Correction:
    """One measurement: its covariance with every effect, its variance, by how much it was missed (log)."""

    covariance: Mapping[Name, float]
    variance: float
    missed: float


@dataclass(frozen=True)
class Knowledge:
    """The fit and the corrections so far."""

    fits: Mapping[str, PhaseFit]
    corrections: tuple[Correction, ...] = ()
    _known: dict[tuple[str, Setting], Known] = field(default_factory=dict, compare=False)

    @classmethod
    def published(cls, found: Coefficients) -> Knowledge:
        """What the published rows tell."""
        return cls({fit.phase: fit for fit in found.phases})

    def known(self, phase: str, setting: Setting) -> Known:
        """Constants of a phase. Cached: a plan asks for many depths of one setting."""
        key = phase, setting
        if key not in self._known:
            self._known[key] = self._constants(phase, setting)
        return self._known[key]

    def estimate(
        self,
        phase: str,
        setting: Setting,
        work: Work,
        machine: Machine,
        given: Mapping[str, float] | None = None,
    ) -> Estimate:
        """A phase's time. `given`: constants that are not this phase's own (prefill: `bandwidth_share`)."""
        known, form = self.known(phase, setting), FORMS[phase]
        at = {**known.constants, **(given or {})}
        here = form(at, work, machine)
        # A limit that does not bind yet has no slope, but it may bind within what is known of it: wide steps.
        slopes = {
            name: math.log(form({**at, name: value}, work, machine) / here) / step
            for name, (value, step) in known.slower.items()
        }
        slopes[_MISFIT] = 1.0
        variance = sum(slopes[a] * slopes[b] * value for (a, b), value in known.covariance.items())
        return Estimate(known, here * math.exp(known.missed), slopes, math.sqrt(max(0.0, variance)))

    def joint_deviation(self, parts: tuple[Estimate, ...]) -> float:
        """Standard deviation of the logarithm of a sum of phases that a measurement has tied together."""
        total = sum(part.seconds for part in parts)
        weights = [part.seconds / total for part in parts]
        variance = sum((w * part.deviation) ** 2 for w, part in zip(weights, parts, strict=True))
        for i, one in enumerate(parts):
            for j, other in enumerate(parts):
                if i == j:
                    continue
                for fix in self.corrections:
                    tied = _along(fix, one) * _along(fix, other) / fix.variance
                    variance -= weights[i] * weights[j] * tied
        return math.sqrt(max(0.0, variance))

    def observing(self, parts: tuple[Estimate, ...], seconds: float, deviation: float) -> Knowledge:
        """With one measurement of the sum of `parts` taken into account; `deviation`: of its logarithm."""
        total = sum(part.seconds for part in parts)
        slopes: dict[Name, float] = {}
        for part in parts:
            for constant, names in part.known.names.items():
                for name in names:
                    slopes[name] = slopes.get(name, 0.0) + part.seconds / total * part.slopes[constant]
        everything = {*slopes} | {
            (phase, effect.constant, effect.level)
            for phase, fit in self.fits.items()
            for effect in fit.effects
        }
        covariance = {
            name: sum(slope * self._between(name, other) for other, slope in slopes.items())
            for name in everything
        }
        variance = sum(slope * covariance[name] for name, slope in slopes.items()) + deviation**2
        fix = Correction(covariance, variance, math.log(seconds / total))
        return Knowledge(self.fits, (*self.corrections, fix))

    def _constants(self, phase: str, setting: Setting) -> Known:
        fit = self.fits[phase]
        names = {
            constant: tuple((phase, constant, level) for level in levels(setting, phase, constant))
            for constant in CONSTANTS[phase]
        }
        names[_MISFIT] = ((phase, _MISFIT, f"{setting.runtime}/{setting.dtype}"),)
        values = {
            constant: linked(constant, CENTRE[constant][0]) + sum(self._mean(name) for name in found)
            for constant, found in names.items()
            if constant != _MISFIT
        }
        covariance = {
            (a, b): sum(self._between(one, other) for one in names[a] for other in names[b])
            for a in names
            for b in names
        }
        unseen = tuple(
            dict.fromkeys(
                level
                for found in names.values()
                for _, constant, level in found
                if constant != _MISFIT and (constant, level) not in fit.index
            )
        )
        near = fit.nearness(setting)
        missed = self._mean(names[_MISFIT][0])
        factor = fit.factor.get(f"{near}/{setting.runtime}", fit.factor[near])
        return Known(phase, setting, names, values, covariance, near, factor, missed, unseen)

    def _mean(self, name: Name) -> float:
        phase, constant, level = name
        fit = self.fits[phase]
        at = fit.index.get((constant, level))
        base = 0.0 if at is None else fit.effects[at].value
        return base + sum(
            fix.covariance.get(name, 0.0) * fix.missed / fix.variance for fix in self.corrections
        )

    def _between(self, one: Name, other: Name) -> float:
        """Covariance of two effects."""
        base = self._fitted(one, other) if one[0] == other[0] else 0.0
        for fix in self.corrections:
            base -= fix.covariance.get(one, 0.0) * fix.covariance.get(other, 0.0) / fix.variance
        return base

    def _fitted(self, one: Name, other: Name) -> float:
        fit = self.fits[one[0]]
        a, b = fit.index.get(one[1:]), fit.index.get(other[1:])
        if a is not None and b is not None:
            return fit.triangle[max(a, b)][min(a, b)]
        if one != other:
            return 0.0
        if one[1] == _MISFIT:
            return fit.misfit.get(one[2].partition("/")[0], fit.misfit_elsewhere) ** 2
        return fit.widths[f"{one[1]}:{level_of(one[2])}"] ** 2


def _along(fix: Correction, part: Estimate) -> float:
    """Covariance of a measurement with the logarithm of a phase's time."""
    return sum(
        part.slopes[constant] * fix.covariance.get(name, 0.0)
        for constant, names in part.known.names.items()
        for name in names
    )
