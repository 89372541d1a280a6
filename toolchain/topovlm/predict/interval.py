"""A figure that is predicted is never one number: value and the range in which it is expected to lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """`low <= value <= high`, all in the unit of the field that holds it."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, spread: float) -> Interval:
        """A multiplicative range: `value / (1 + spread)` to `value * (1 + spread)`."""
        return cls(value, value / (1 + spread), value * (1 + spread))

    def __add__(self, other: Interval) -> Interval:
        """Sum of both, ends added: errors of phases on one board go together, they do not cancel."""
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def scaled(self, factor: float) -> Interval:
        """Every bound times a non-negative factor."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def to_dict(self) -> dict[str, float]:
        """JSON form, to four significant digits."""
        return {
            "value": float(f"{self.value:.4g}"),
            "low": float(f"{self.low:.4g}"),
            "high": float(f"{self.high:.4g}"),
        }


ZERO = Interval(0.0, 0.0, 0.0)
