"""The fuzzer: seeds repeat, spoilt files are spoilt, and what goes wrong is seen."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from benchmarks.fuzzing import spoil
from benchmarks.fuzzing.forks import Ended, Server
from benchmarks.fuzzing.kinds import Spoil
from benchmarks.fuzzing.room import Room
from PIL import Image

from tests.cases.command import mini
from topovlm.reference import model_dir

_ROOT = Path(__file__).resolve().parents[2]


def _examples(room: Path) -> dict[Spoil, bytes]:
    picture = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(picture, "PNG")
    lines = "\n".join(json.dumps({"image": "a.png", "prompt": str(n)}) for n in range(5))
    return {
        spoil.json_text: (model_dir() / "config.json").read_bytes(),
        spoil.json_lines: lines.encode(),
        spoil.toml_text: (_ROOT / "targets" / "a10.toml").read_bytes(),
        spoil.template: (model_dir() / "chat_template.jinja").read_bytes(),
        spoil.safetensors: (mini(room / "mini") / "model.safetensors").read_bytes(),
        spoil.picture: picture.getvalue(),
        spoil.octets: bytes(range(256)),
    }


def test_a_seed_spoils_a_file_always_in_the_same_way(tmp_path: Path) -> None:
    """What a failure's seed names can be made again; other seeds make others, nearly all of them spoilt."""
    for change, raw in _examples(tmp_path).items():
        made = [change(Random(seed), raw) for seed in range(200)]
        assert made == [change(Random(seed), raw) for seed in range(200)]
        assert sum(one != raw for one in made) > 150
        assert len(set(made)) > 60


@pytest.mark.parametrize(
    ("ended", "text", "errors", "why"),
    [
        (Ended(0, 1, 1, 1 << 27), "fine\n", "", None),
        (Ended(2, 1, 1, 1 << 27), "", "topovlm: --model = 'x': is no model\n", None),
        (Ended(1, 1, 1, 1 << 27), "", "Traceback (most recent call last):\n  File", "traceback"),
        (Ended(1, 1, 1, 1 << 27), "", "topovlm: internal error: KeyError: 'a'\n", "traceback"),
        (Ended(1, 1, 1, 1 << 27), "", "topovlm: lost\n", "exit code 1"),
        (Ended(-11, 1, 1, 1 << 27), "", "", "exit code -11"),
        (Ended(2, 1, 1, 1 << 27), "", "", "no sentence"),
        (Ended(0, 40, 12, 1 << 27), "", "", "over 10 s"),
        (Ended(-9, 60, 1, 1 << 27, "time"), "", "", "over 10 s"),
        (Ended(2, 1, 1, 1 << 31), "", "topovlm: no\n", "over 1 GB"),
        (Ended(2, 1, 1, 1 << 27), "", "topovlm: a\x1b[2Jb\n", "control characters"),
        (Ended(2, 1, 1, 1 << 27), "", "topovlm: a\u202eb\n", "control characters"),
    ],
)
def test_what_goes_wrong_is_seen(room: Room, ended: Ended, text: str, errors: str, why: str | None) -> None:
    """Each way to end badly has its name; a refusal in one sentence is none of them."""
    assert room.why(ended, text, errors, Ended(0, 1, 1, 1 << 27)) == why


def test_a_file_left_among_temporary_ones_is_seen(room: Room) -> None:
    """Named once, and gone for the next case."""
    (room.temporary / "scratch").write_text("left")
    plain = Ended(0, 1, 1, 1 << 27)
    assert room.why(plain, "", "", plain) == "left behind: scratch"
    assert room.why(plain, "", "", plain) is None


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A room whose servers nobody asks."""
    monkeypatch.setattr("benchmarks.fuzzing.room.Server", lambda env: None)
    return Room(tmp_path / "room", tmp_path)


def test_a_forked_command_is_the_command(tmp_path: Path) -> None:
    """Exit code, standard output and error of a fork are those of a new interpreter, and of a shell."""
    server = Server({"PATH": "", "PYTHONPATH": ":".join(sys.path)})
    words = ["plan", "--target", "jetson-orinn", "--sparsity", "25%"]
    told = []
    for fresh in (False, True):
        streams = tmp_path / f"out-{fresh}", tmp_path / f"err-{fresh}"
        ended = server.run(words, tmp_path, streams, fresh=fresh)
        told.append((ended.code, *(path.read_text() for path in streams)))
    server.close()
    done = subprocess.run(
        [sys.executable, "-m", "topovlm", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told[0] == told[1] == (done.returncode, done.stdout, done.stderr)
    assert done.returncode == 2
