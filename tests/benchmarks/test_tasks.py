"""The command that checks the public benchmarks: agreement, rows, chance and empty answers of all ten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tasks.__main__ import main
from benchmarks.tasks.agreement import GOLDEN
from benchmarks.tasks.chance import chance_of, rules_of
from benchmarks.tasks.small import build

from topovlm.tasks.public.dataset import read
from topovlm.tasks.public.table import BENCHMARKS


def test_every_benchmark_has_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """No stray among the vectors, every row of the small benchmark read, nothing for an empty answer."""
    assert main(["--questions", "8", "--guesses", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    golden, read_rows = ([line.split(" | ") for line in printed if line.startswith(f"| {name} |")]
                         for name in ("ai2d", "nextqa"))  # fmt: skip
    assert golden[0][-1] == "0 |"
    assert [row[1] for row in read_rows[1:]] == ["8", "8"]
    assert all(row[-1] == "0.0% |" for row in read_rows[1:])
    assert all(any(line.startswith(f"| {name} |") for line in printed) for name in BENCHMARKS)


def test_a_stray_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A score that differs without a stated reason is named."""
    document = json.loads((GOLDEN / "ai2d.json").read_text(encoding="utf-8"))
    document["rows"][0]["answers"][0][1] = 0.0
    (tmp_path / "ai2d.json").write_text(json.dumps(document))
    assert main(["--golden", str(tmp_path), "--questions", "4", "--guesses", "1"]) == 1
    assert "scores 0.0 there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ai2d", "mmbench", "blink"])
def test_guessing_scores_what_chance_says(tmp_path: Path, name: str) -> None:
    """Under both protocols, within the interval of some thousand guesses."""
    build(tmp_path, 40)
    data = read(BENCHMARKS[name], tmp_path)
    for rule in rules_of(data).values():
        found = chance_of(data, rule, 60)
        assert found.low - 0.01 <= found.stated <= found.high + 0.01
        assert found.empty == 0
