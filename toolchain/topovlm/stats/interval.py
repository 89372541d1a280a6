"""The one form that every estimate takes here: a value with its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A point estimate with its interval at `confidence` (two-sided)."""

    value: float
    low: float
    high: float
    confidence: float = 0.95
