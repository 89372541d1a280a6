"""The committed command that checks a local profile on depths and lengths it never timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.local_profile import main, table, unseen

from tests.runtime.toy_export import Toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy(layers=8).write(tmp_path_factory.mktemp("benchmark") / "x")


def test_table_of_predicted_against_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of unseen depths and lengths, and a summary; nothing is left beside the export."""
    arguments = ["--time-limit", "1s", "--threads", "1", "--points", "4", "--depths", "3,6"]
    assert main([str(folder), "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    (model,) = found["models"]
    assert {row["layers"] for row in model["rows"]} == {3, 6, 8}
    visual = model["profile"]["workload"]["visual_tokens"]
    timed = [(n, s - visual) for n in model["profile"]["depths"] for s in model["profile"]["lengths"]]
    assert not {(row["layers"], row["prompt_tokens"]) for row in model["rows"]} & set(timed)
    assert set(model["pace"]) == {"prefill", "token"}
    for row in model["rows"]:
        assert row["error"] == pytest.approx(row["predicted_ms"] / row["measured_ms"] - 1)
    assert found["summary"]["points"] == len(model["rows"]) == 16
    assert found["summary"]["max_error"] == max(abs(row["error"]) for row in model["rows"])
    lines = table(model).splitlines()[2:18]
    assert [line.split()[0] for line in lines] == ["3"] * 6 + ["6"] * 6 + ["8"] * 4
    assert {line.split()[2] for line in lines} == {"prefill", "token"}
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_unseen_places() -> None:
    """Between the timed ones, never one of them, from low to high."""
    assert unseen([2, 6, 16], 4) == [4, 8, 11, 14]
    assert unseen([2, 4], 4) == [3]
    assert unseen([2, 3], 4) == []
    found = unseen([39, 55, 110, 220], 3)
    assert len(found) == 3
    assert found == sorted(found)
    assert min(found) > 39


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no export gives exit code 2 and one sentence."""
    assert main([str(tmp_path)]) == 2
    assert "no exported model" in capsys.readouterr().err
