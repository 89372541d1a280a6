"""Fitted coefficients: what share of its peaks a board reaches, and how well that is known.

`efficiencies.json` is written by `python -m benchmarks.fit_predictor` and never by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec

from topovlm.predict.levels import Setting
from topovlm.predict.memory import MemoryModel
from topovlm.records import Part, read

SCHEMA = 3
PATH = Path(__file__).with_name("efficiencies.json")


class Effect(Part, frozen=True):
    """What one level adds to a constant, on the scale that levels add up on (`predict.levels`)."""

    constant: str
    level: str
    value: float


class Support(Part, frozen=True):
    """How many rows were published of a board with a runtime of a version and weights of a width.

    Of these rows: the weights of the smallest layers, and the fewest clocks that multiprocessors make while
    the bus carries a byte.
    """

    family: str
    board: str
    runtime: str
    version: str
    width: str
    rows: int
    least_layer_params: float
    least_sm_clocks_per_byte: float


class PhaseFit(Part, frozen=True, kw_only=True, dict=True):
    """One phase: effects, their joint covariance (lower triangle, a line each) and what bounds an interval.

    `widths`: standard deviation of a level's effects, by `constant:level`: what an unseen one may be.
    `misfit`: standard deviation, in the logarithm of time, of what the form leaves open, by runtime.
    `factor`: standard deviations to the ends of an interval, by nearness (`seen`) or by nearness and runtime
    (`seen/edge-llm`), from held-out rows.
    """

    phase: str
    effects: tuple[Effect, ...]
    covariance: tuple[str, ...]
    widths: dict[str, float]
    misfit: dict[str, float]
    misfit_elsewhere: float
    factor: dict[str, float]
    support: tuple[Support, ...]

    @cached_property
    def index(self) -> dict[tuple[str, str], int]:
        """Where an effect stands, by constant and level."""
        return {(effect.constant, effect.level): at for at, effect in enumerate(self.effects)}

    @cached_property
    def triangle(self) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(map(float, line.split())) for line in self.covariance)

    def nearness(self, setting: Setting) -> str:
        """`seen`: rows of just this; `kin`: of the family with this runtime and width; else `far`."""
        return nearness(self.support, setting)

    def least_layer_params(self, runtime: str) -> float:
        """Weights of the smallest layers that this runtime (else: any) was timed with."""
        return min(each.least_layer_params for each in self._of(runtime))

    def least_sm_clocks_per_byte(self, runtime: str) -> float:
        """Fewest multiprocessor clocks per byte of bandwidth that this runtime (else: any) was timed with."""
        return min(each.least_sm_clocks_per_byte for each in self._of(runtime))

    def _of(self, runtime: str) -> Sequence[Support]:
        return [each for each in self.support if each.runtime == runtime] or self.support


def nearness(support: tuple[Support, ...], setting: Setting) -> str:
    """How near the nearest rows are."""
    alike = [each for each in support if (each.runtime, each.width) == (setting.runtime, setting.width)]
    if any((each.board, each.version) == (setting.board, setting.version) for each in alike):
        return "seen"
    return "kin" if any(each.family == setting.family for each in alike) else "far"


class HeldOut(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Errors on rows that a fit did not see; `covered`: share that its interval covered, where it has one."""

    rows: int
    median: float
    p90: float
    covered: float | None = None


class Coefficients(Part, frozen=True, kw_only=True):
    """The whole file.

    `default_runtime`: what predictions are for unless another is named; it has the most rows. `versions`: the
    newest version of each runtime that has rows: what predictions speak for.
    """

    schema: int
    generated_by: str
    rows_sha256: str
    default_runtime: str
    versions: dict[str, str]
    phases: tuple[PhaseFit, ...]
    memory: MemoryModel
    held_out: dict[str, HeldOut] = msgspec.field(default_factory=dict)

    def phase(self, name: str) -> PhaseFit:
        return next(fit for fit in self.phases if fit.phase == name)


@lru_cache(maxsize=1)
def coefficients() -> Coefficients:
    """The shipped coefficients. Raises `InputError` for a damaged file."""
    return read(PATH, Coefficients, field="efficiencies", remedy="Reinstall topovlm", schema=SCHEMA)


def default_runtime() -> str:
    """The runtime that predictions are for unless another one is named."""
    return coefficients().default_runtime


def spoken_for(runtime: str) -> str:
    """The version of a runtime that predictions speak for; "" where rows name none."""
    return coefficients().versions.get(runtime, "")
