"""Durations, sizes and shares: the unit is part of what the user says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.units import (
    LatencyBudget,
    format_bytes,
    format_ms,
    parse_bytes,
    parse_duration_ms,
    parse_fraction,
    spell_bytes,
    spell_ms,
    spell_share,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("200ms", 200), ("0.2s", 200), ("350us", 0.35), (" 1.5 s ", 1500), (".5ms", 0.5), ("10min", 600_000)],
)
def test_duration_is_read_with_its_unit(text: str, ms: float) -> None:
    """Minutes, seconds, milliseconds and microseconds mean what they say."""
    assert parse_duration_ms(text) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["200", "200m", "ms", "-5ms", "0ms", "1e3ms", "200 ms ms", "nan", ""])
def test_duration_without_a_clear_unit_is_refused(text: str) -> None:
    """A bare number, an unknown unit, zero and nonsense name the field and the value."""
    with pytest.raises(InputError, match="--max-latency") as raised:
        parse_duration_ms(text, "--max-latency")
    assert repr(text) in str(raised.value)


def test_bare_number_message_says_what_to_write() -> None:
    """The remedy repeats the number with units."""
    with pytest.raises(InputError, match="200ms or 200s"):
        parse_duration_ms("200")


@pytest.mark.parametrize(
    ("text", "size"), [("6GiB", 6 * 2**30), ("6GB", 6 * 10**9), ("512MiB", 2**29), ("1kB", 1000)]
)
def test_size_tells_binary_from_decimal(text: str, size: int) -> None:
    """GiB is binary, GB decimal."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["6G", "6M", "6", "6gib", "0GiB"])
def test_ambiguous_size_is_refused(text: str) -> None:
    """6G means two things; nothing is guessed."""
    with pytest.raises(InputError):
        parse_bytes(text)


@given(st.floats(min_value=0.01, max_value=100, allow_nan=False))
def test_percent_and_fraction_agree(percent: float) -> None:
    """60% and 0.6 are the same share."""
    text = f"{percent:.6f}"
    assert parse_fraction(text + "%") == pytest.approx(float(text) / 100)


@pytest.mark.parametrize("text", ["0%", "101%", "1.5", "-5%", "60percent"])
def test_share_outside_its_range_is_refused(text: str) -> None:
    """A share lies above 0 and at most at 100%."""
    with pytest.raises(InputError):
        parse_fraction(text)


def test_latency_budget_is_absolute_or_relative() -> None:
    """200ms stays; 60% is taken of the dense latency."""
    assert LatencyBudget.parse("200ms").resolve_ms(1000) == 200
    assert LatencyBudget.parse("60%").resolve_ms(50) == pytest.approx(30)
    assert str(LatencyBudget.parse("60%")) == "60% of dense"


def test_formats_are_for_people() -> None:
    """Three digits and the unit a person would choose."""
    assert [format_ms(value) for value in (12_000, 123.4, 1.234, 0.001)] == [
        "12 s",
        "123 ms",
        "1.23 ms",
        "1 us",
    ]
    assert format_bytes(3 * 2**30) == "3.00 GiB"


@given(st.floats(min_value=1e-9, max_value=1.0))
def test_a_share_is_read_as_it_is_spelled(share: float) -> None:
    """Bit for bit: a stored budget can be typed again."""
    assert parse_fraction(spell_share(share)) == share
    assert LatencyBudget.parse(LatencyBudget(share_of_dense=share).spelled()).share_of_dense == share


@given(st.integers(1, 2**50))
def test_a_size_is_read_as_it_is_spelled(size: int) -> None:
    """Byte for byte, in a unit that it is whole in."""
    assert parse_bytes(spell_bytes(size)) == size
    assert spell_bytes(6 * 2**30) == "6GiB"


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_duration_is_read_as_it_is_spelled(value_ms: float) -> None:
    """Bit for bit, whatever its size."""
    assert parse_duration_ms(spell_ms(value_ms)) == value_ms
