"""A target file or a folder whose name holds square brackets, or what else a terminal library reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cases.command import mini, topovlm
from topovlm.predict.target import data_dir

NAMES = [
    "Line 3 [/camera] board [lab]",
    "[bold red]x[/]",
    "a :smile: b",
    "[link=file:///x]y[/link]",
    "\\[x]",
    "[/]",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["plan", "targets"])
def test_brackets_in_a_board_name(name: str, command: str, tmp_path: Path) -> None:
    """The name is shown as it stands."""
    text = (data_dir("targets") / "jetson-orin-nano-8gb.toml").read_text()
    quoted = name.replace("\\", "\\\\")
    (tmp_path / "board.toml").write_text(
        re.sub(r"(?m)^name = .*", lambda _: f'name = "{quoted}"', text, count=1)
    )
    words = ["plan", "--target", "./board.toml", "--max-latency", "60%"]
    done = topovlm(*(words if command == "plan" else ["targets", "./board.toml"]), cwd=tmp_path)
    assert done.code == 0, done.err
    assert name in done.err


@pytest.mark.parametrize("folder", ["[model] [/x]", "model :smile:", "$x$ (1)"])
def test_brackets_in_a_model_folder(folder: str, tmp_path: Path) -> None:
    """The plan is made, and the pruned model written, under that name."""
    mini(tmp_path / folder)
    done = topovlm("plan", "--target", "t4", "--max-latency", "60%", "--model", folder, cwd=tmp_path)
    assert done.code in (0, 3), done.err
    assert "Traceback" not in done.err
    out = f"{folder} out"
    done = topovlm("prune", "--no-verify", "--model", folder, "--drop", "1", "-o", out, cwd=tmp_path)
    assert done.code == 0, done.err
    assert out in done.err
    assert (tmp_path / out / "config.json").is_file()
