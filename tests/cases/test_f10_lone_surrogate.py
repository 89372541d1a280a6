"""Half of a surrogate pair, in data or on the command line: refused by file, line and field."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cases.command import topovlm
from tests.runtime.toy_export import Toy


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy().write(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("field", ["prompt", "answer", "id", "category", "family", "group", "image"])
def test_the_field_is_named(exported: Path, tmp_path: Path, field: str) -> None:
    """Text that was cut in the middle of an emoji."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = {"image": "a.png", "prompt": "what", "answer": "red"}
    rows = [row, {**row, "id": "b", field: "cut \ud83d"}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = topovlm("eval", exported, "--data", "d.jsonl", cwd=tmp_path)
    assert done.refused
    assert "d.jsonl:2: " in done.last
    assert f"{field} holds half of a surrogate pair" in done.last


def test_a_whole_pair_is_a_character(exported: Path, tmp_path: Path) -> None:
    """As JSON writers spell it."""
    (tmp_path / "d.jsonl").write_text(json.dumps({"prompt": "what \U0001f600", "answer": "red"}))
    assert topovlm("eval", exported, "--data", "d.jsonl", "--json", cwd=tmp_path).code == 0


@pytest.mark.parametrize("flag", ["--prompt", "--image", "--variant"])
def test_an_argument_that_is_not_utf8(exported: Path, tmp_path: Path, flag: str) -> None:
    """A terminal of another encoding."""
    words = [b"run", str(exported).encode(), b"--prompt", b"what", flag.encode(), b"caf\xe9"]
    command = [sys.executable.encode(), b"-m", b"topovlm", *words, b"--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"argument 6" in done.stderr
    assert b"Traceback" not in done.stderr
    assert "is not UTF-8 text" in json.loads(done.stdout)["error"]["message"]
