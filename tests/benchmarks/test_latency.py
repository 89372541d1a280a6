"""The committed latency command: its table, its JSON and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.latency import main

from tests.runtime.toy_export import Toy


def test_prints_ratios_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two folders give a table with paired ratios, or their raw samples as JSON."""
    folders = [str(Toy(layers=n).write(tmp_path / str(n))) for n in (4, 2)]
    common = [*folders, "--new-tokens", "3", "--time-limit", "200ms", "--threads", "1"]
    assert main(common) == 0
    out = capsys.readouterr().out
    assert "measured on" in out
    assert "4 layers" in out
    assert " x " in out
    assert main([*common, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [engine["layers"] for engine in data["engines"].values()] == [4, 2]
    assert data["workload"]["new_tokens"] == 3


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no export, and a time without a unit, are one sentence and exit code 2."""
    assert main([str(tmp_path)]) == 2
    assert "no exported model" in capsys.readouterr().err
    assert main([str(tmp_path), "--time-limit", "5"]) == 2
    assert "unit" in capsys.readouterr().err
