"""A figure that is predicted is never one number: value and the range in which it is expected to lie."""

from __future__ import annotations

from topovlm.records import Part


class PredictionInterval(Part, frozen=True):
    """`low <= value <= high`, all in the unit of the field that holds it."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, spread: float) -> PredictionInterval:
        """A multiplicative range: `value / (1 + spread)` to `value * (1 + spread)`."""
        return cls(value, value / (1 + spread), value * (1 + spread))

    def __add__(self, other: PredictionInterval) -> PredictionInterval:
        """Sum of both, ends added: errors of phases on one board go together, they do not cancel."""
        return PredictionInterval(self.value + other.value, self.low + other.low, self.high + other.high)

    def scaled(self, factor: float) -> PredictionInterval:
        """Every bound times a non-negative factor."""
        return PredictionInterval(self.value * factor, self.low * factor, self.high * factor)

    def rounded(self) -> PredictionInterval:
        """To the four significant digits that are stored and printed."""
        return PredictionInterval(*(float(f"{part:.4g}") for part in (self.value, self.low, self.high)))


ZERO = PredictionInterval(0.0, 0.0, 0.0)
