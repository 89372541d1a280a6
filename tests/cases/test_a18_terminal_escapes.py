"""Nothing that a model, a target or a report says moves the cursor of a terminal or is a command of CI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import Done, mini, topovlm
from tests.cases.reports import checked, written
from topovlm.predict.target import data_dir

HARM = "\\u001b]0;title\\u0007"
COMMAND = f"{HARM}\\n::error::fake"


def plain(done: Done) -> bool:
    raw = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", done.out + done.err)
    command = any(line.lstrip().startswith("::") for line in (done.out + done.err).splitlines())
    return raw is None and not command


def test_index_json(tmp_path: Path) -> None:
    """The name of a shard."""
    model = mini(tmp_path / "m", sharded=True)
    index = model / "model.safetensors.index.json"
    shard = f"{HARM}.safetensors"
    index.write_text(index.read_text().replace("model-00001-of-00002.safetensors", shard, 1))
    done = topovlm("prune", "--no-verify", "--model", model, "--drop", "1", "-o", "o", cwd=tmp_path)
    assert done.refused, done.err
    assert plain(done)
    assert "title" in done.err


def board(folder: Path, name: str, base: str = "t4") -> Path:
    text = (data_dir("targets") / f"{base}.toml").read_text()
    file = folder / "t.toml"
    file.write_text(re.sub(r"(?m)^name = .*", lambda _: f'name = "{name}"', text, count=1))
    return file


@pytest.mark.parametrize(
    "name", [COMMAND, "::warning::x", "\\u202eabc", "##[error]x", "[red]x[/red] :smile:"]
)
@pytest.mark.parametrize(
    "words", [["targets"], ["targets", "--json"], ["plan", "--max-latency", "60%", "--target"]]
)
def test_target_name(name: str, words: list[str], tmp_path: Path) -> None:
    """Of the user's own board, in tables, lines and documents."""
    file = board(tmp_path, name)
    at = [words[0], f"./{file.name}", *words[1:]] if words[0] == "targets" else [*words, f"./{file.name}"]
    done = topovlm(*at, cwd=tmp_path)
    assert done.code == 0, done.err
    assert plain(done)


def test_report(tmp_path: Path) -> None:
    """Its title and the names of its models."""

    def change(report: dict[str, Any]) -> None:
        report["title"], report["dense"]["name"] = "\x1b[31mred", "::error::\x1b]0;title\x07"

    written(tmp_path / "report.json", change)
    for words in (["report", "report.json"], ["report", "report.json", "--json"]):
        done = topovlm(*words, cwd=tmp_path)
        assert done.code == 0, done.err
        assert plain(done)


def test_check(tmp_path: Path) -> None:
    """Names of checks, notes, and what differs between two runs."""

    def change(report: dict[str, Any]) -> None:
        report["verifications"][0]["name"] = "\x1b[31m\n::error::x"
        report["environment"]["cpu"] = "\x1b[31m\n::error::x"

    done = checked(tmp_path, change)
    assert done.code == 4
    assert plain(done)
    done = checked(tmp_path, lambda report: report["target"].update(key="\x1b[31m\n::error::x"))
    assert done.refused
    assert plain(done)


@pytest.mark.parametrize(
    "words", [["--\x1b[31m"], ["report", "\x1b[31m"], ["targets", "\x1b[31mx\n::error::y"]]
)
def test_command_line(words: list[str], tmp_path: Path) -> None:
    """What was typed, or pasted, is quoted as text."""
    done = topovlm(*words, cwd=tmp_path)
    assert done.refused
    assert plain(done)
