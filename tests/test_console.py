"""How far a stage is, in words."""

from __future__ import annotations

import pytest

from topovlm.console import Pace, pace


@pytest.mark.parametrize(
    ("done", "counted", "seconds", "text"),
    [
        (320, 320, 80.0, "320 of 3088, 4.0 a second, 12 min left"),
        (3080, 10, 100.0, "3080 of 3088, 6.0 a minute, 80 s left"),
        (64, 0, 0.0, "64 of 3088"),
    ],
)
def test_rate_and_time_left(done: int, counted: int, seconds: float, text: str) -> None:
    """The rate is of what was counted in this run: what was kept from another one took no time."""
    assert pace(done, 3088, counted, seconds) == text


def test_a_log_hears_of_a_long_stage_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """No line for a short one, none at the end, and kept answers are no rate."""
    now = [0.0]
    told = Pace("ai2d", lambda: now[0])
    for second in range(0, 201, 20):
        now[0] = float(second)
        told.tell(1000 + second, 1200)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0].split()[1] for line in lines] == ["1060", "1120", "1180"]
    assert "1.0 a second" in lines[0]
    assert "140 s" in lines[0] or "2 min left" in lines[0]
