"""The committed command that checks a local profile on depths it never timed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.local_profile import main, unseen_depths

from tests.runtime.toy_export import Toy


def test_table_of_predicted_against_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row per unseen depth and phase, and a summary; nothing is left beside the export."""
    folder = Toy(layers=6).write(tmp_path / "x")
    assert main([str(folder), "--depths", "3,5", "--time-limit", "100ms", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [
        [depth, phase] for depth in ("3", "5") for phase in ("vision", "embed", "prefill", "token")
    ]
    assert "8 points" in lines[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_depths_were_not_timed() -> None:
    """The default depths avoid those of the profile."""
    assert unseen_depths(16) == [2, 5, 7, 9, 12, 14]
    assert not set(unseen_depths(28)) & {7, 18, 28}


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no export gives exit code 2 and one sentence."""
    assert main([str(tmp_path)]) == 2
    assert "no exported model" in capsys.readouterr().err
