"""Durations, sizes and shares as users write them, with the unit spelled out.

A bare number is refused: tools of this field disagree whether `200` is ms, s or MiB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from topovlm.errors import InputError, explain

_MS_PER_UNIT = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_BYTES_PER_UNIT = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_NUMBER_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([^\s0-9.]*)\s*")


def _split(text: str, field: str, example: str) -> tuple[Decimal, str]:
    match = _NUMBER_UNIT.fullmatch(text)
    if not match:
        raise InputError(explain(field, text, "is not a number with a unit", f"Write e.g. {example}"))
    return Decimal(match[1]), match[2]


def parse_duration_ms(text: str, field: str = "duration") -> float:
    """`200ms`, `0.2s`, `350us`, `10min` -> milliseconds (> 0). Raises `InputError` without a unit."""
    number, unit = _split(text, field, "200ms or 0.2s")
    if unit not in _MS_PER_UNIT:
        rule = "has no unit" if not unit else f"has the unknown unit {unit!r}"
        remedy = f"Write e.g. {number:g}ms or {number:g}s; units: us, ms, s, min"
        raise InputError(explain(field, text, rule, remedy))
    if number <= 0:
        raise InputError(explain(field, text, "must be more than zero"))
    return float(number) * _MS_PER_UNIT[unit]


def parse_bytes(text: str, field: str = "size") -> int:
    """`6GiB`, `6GB`, `512MiB` -> bytes (> 0). A bare `G` is refused: 6G means two things."""
    number, unit = _split(text, field, "6GiB or 6GB")
    if unit not in _BYTES_PER_UNIT:
        rule = "has no unit" if not unit else f"has the ambiguous or unknown unit {unit!r}"
        raise InputError(explain(field, text, rule, "Units: " + ", ".join(_BYTES_PER_UNIT)))
    if number <= 0:
        raise InputError(explain(field, text, "must be more than zero"))
    return round(number * _BYTES_PER_UNIT[unit])


def parse_fraction(text: str, field: str = "share") -> float:
    """`60%` or `0.6` -> 0.6, in (0, 1]."""
    number, unit = _split(text, field, "60%")
    if unit not in ("", "%"):
        raise InputError(explain(field, text, f"has the unknown unit {unit!r}", "Write e.g. 60%"))
    # In decimal, so that what is written as a percentage is read as the same share.
    share = float(number / 100) if unit == "%" else float(number)
    if not 0 < share <= 1:
        raise InputError(explain(field, text, "must lie above 0 and at most at 100%", "Write e.g. 60%"))
    return share


def parse_share(value: str | float, field: str = "share") -> float:
    """A share that may also be nothing: `0`, `0%`, `5%`, `0.05`, as text or as a number."""
    text = value
    if not isinstance(value, str):
        try:
            text = _plain_number(value)
        except (TypeError, ValueError):
            raise InputError(explain(field, value, wrong_type(value), "Write e.g. 0.05 or 5%")) from None
    assert isinstance(text, str)
    return 0.0 if text.strip() in ("0", "0%", "0.0") else parse_fraction(text, field)


def parse_size(value: str | Sequence[int], field: str = "image_size") -> tuple[int, int]:
    """`448x640`, or the two numbers -> (height, width) in px."""
    try:
        text = value if isinstance(value, str) else "x".join(map(str, value))
    except TypeError:
        rule = f"{wrong_type(value)}: must be height x width in pixels"
        raise InputError(explain(field, value, rule, "For example 448x640")) from None
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise InputError(explain(field, value, "must be height x width in pixels", "For example 448x640"))
    return int(height), int(width)


def spell_size(size: Sequence[int]) -> str:
    """(height, width) as `parse_size` reads it."""
    return "x".join(map(str, size))


def wrong_type(value: object) -> str:
    """The rule that a value breaks which is neither text nor the value itself."""
    return f"has the wrong type ({type(value).__name__})"


def _plain_number(value: float) -> str:
    """The shortest decimal digits that give the number again, without an exponent."""
    return format(Decimal(repr(float(value))).normalize(), "f")


def spell_ms(value_ms: float) -> str:
    """As `parse_duration_ms` reads it: `200ms`."""
    return f"{_plain_number(value_ms)}ms"


def spell_share(share: float) -> str:
    """As `parse_fraction` reads it, in percent: `60%`."""
    return f"{format((Decimal(repr(float(share))) * 100).normalize(), 'f')}%"


def spell_bytes(size: int) -> str:
    """As `parse_bytes` reads it, in the largest unit that it is whole in: `6GiB`."""
    units = [unit for unit, count in _BYTES_PER_UNIT.items() if size % count == 0]
    unit = max(units, key=_BYTES_PER_UNIT.__getitem__)
    return f"{size // _BYTES_PER_UNIT[unit]}{unit}"


@dataclass(frozen=True)
class LatencyBudget:
    """Either `absolute_ms` or `share_of_dense` (of the dense model, same target) is set."""

    absolute_ms: float | None = None
    share_of_dense: float | None = None

    @classmethod
    def parse(cls, text: str, field: str = "--max-latency") -> LatencyBudget:
        """`200ms` -> absolute, `60%` -> relative to the dense model."""
        if text.strip().endswith("%"):
            return cls(share_of_dense=parse_fraction(text, field))
        return cls(absolute_ms=parse_duration_ms(text, field))

    def resolve_ms(self, dense_ms: float) -> float:
        """The bound in ms, given the dense model's latency on the same target and workload."""
        if self.absolute_ms is not None:
            return self.absolute_ms
        assert self.share_of_dense is not None
        return self.share_of_dense * dense_ms

    def spelled(self) -> str:
        """As `parse` reads it."""
        if self.absolute_ms is not None:
            return spell_ms(self.absolute_ms)
        return spell_share(self.share_of_dense or 0.0)

    def __str__(self) -> str:
        """For people."""
        if self.absolute_ms is not None:
            return format_ms(self.absolute_ms)
        return f"{100 * (self.share_of_dense or 0):g}% of dense"


def format_ms(value_ms: float) -> str:
    """Three significant digits, in the unit a person would choose."""
    if value_ms >= 10_000:
        return f"{value_ms / 1e3:.3g} s"
    if value_ms >= 100:
        return f"{value_ms:.0f} ms"
    return f"{value_ms:.3g} ms" if value_ms >= 0.01 else f"{value_ms * 1e3:.3g} us"


def format_bytes(value: float) -> str:
    """Binary units, as boards and drivers report memory."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
