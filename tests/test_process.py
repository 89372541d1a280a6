"""Streams and signals of the real command: encodings, readers that leave, full disks, SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "topovlm"]
FULL = Path("/dev/full")


def shell(line: str, **environment: str) -> tuple[int, str, str]:
    """A line of bash with `$T` for the command: its exit code, standard output and standard error."""
    done = subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "T": " ".join(COMMAND), "NO_COLOR": "1", **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def quiet(said: str) -> bool:
    return not any(word in said for word in ("Traceback", "Exception ignored", "internal error"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_streams_will_do(encoding: str, tmp_path: Path) -> None:
    """What it cannot write is escaped; JSON reads back as the same document."""
    line = "cd '" + str(tmp_path) + "' && $T check ☃é --baseline x --json"
    code, out, said = shell(line, PYTHONIOENCODING=encoding)
    assert code == 2
    assert quiet(said)
    assert json.loads(out)["error"]["kind"] == "InputError"
    code, _, said = shell("$T targets jetson-orin", PYTHONIOENCODING=encoding)
    assert (code, quiet(said)) == (0, True)


@pytest.mark.parametrize("words", ["targets --json", "--help", "--print-completion bash", "targets"])
def test_a_reader_that_leaves_ends_it_quietly(words: str) -> None:
    """`| head` and the like: 141, or 0 where all was written before; no word of it."""
    code, _, said = shell(f"{{ sleep 0.7; $T {words}; }} | true; exit ${{PIPESTATUS[0]}}")
    assert code in (0, 141)
    assert quiet(said)
    code, _, said = shell(f"{{ sleep 0.7; $T {words} 2>&1; }} | true; exit ${{PIPESTATUS[0]}}")
    assert code == 141
    assert said == ""


@pytest.mark.parametrize(
    ("closed", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">&- 2>&-", 0), ("<&- >&- 2>&-", 0)]
)
def test_streams_that_were_closed_before(closed: str, code: int) -> None:
    """Nobody listens: the command does its work all the same, and writes into no other file."""
    got, _, said = shell(f"$T targets --json {closed}")
    assert got == code
    assert quiet(said)


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", ["targets --json", "--help", "check x --baseline y --json"])
def test_a_full_disk_behind_standard_output(words: str) -> None:
    """Exit code 2 and one sentence, not silence: the document is not whole."""
    code, _, said = shell(f"$T {words} > {FULL}")
    assert code == 2
    assert quiet(said)
    assert "standard output" in said
    assert shell(f"$T {words} > {FULL} 2> {FULL}")[0] == 2


STAY = """
import sys, tempfile, pathlib, time, subprocess
from topovlm import cli
from topovlm.artifacts import staged_folder
from topovlm.commands import targets

def stay(args):
    with tempfile.TemporaryDirectory() as room, staged_folder(pathlib.Path(sys.argv[1]) / 'result') as folder:
        (folder / 'half').write_text('x')
        print('ready', flush=True)
        try:
            subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', sys.argv[1]])
        finally:
            time.sleep(0.5)  # tidying up takes a moment
            (pathlib.Path(sys.argv[1]) / 'tidy').write_text('')

targets.run = stay
sys.exit(cli.main(['targets']))
"""


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def _heed_signals() -> None:
    """Tests may run under `nohup`, and what was ignored stays ignored."""
    for name in ("SIGHUP", "SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        (["SIGTERM"], 143),
        (["SIGHUP"], 129),
        (["SIGINT"], 130),
        (["SIGTERM", "SIGTERM"], 143),
        (["SIGINT", "SIGINT", "SIGTERM"], 130),
        (["SIGTERM", "SIGHUP", "SIGINT"], 143),
    ],
)
def test_a_signal_tidies_up_and_has_its_exit_code(signals: list[str], code: int, tmp_path: Path) -> None:
    """Temporary folders are gone, the child is dead, also when more signals come while it tidies up."""
    room = tmp_path / "tmp"
    room.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", STAY, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(room)},
        preexec_fn=_heed_signals,  # noqa: PLW1509 - no threads here
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    for name in signals:
        child.send_signal(getattr(signal, name))
        time.sleep(0.1)
    _, said = child.communicate(timeout=30)
    assert child.returncode == code
    assert quiet(said.decode())
    assert "run the same command again to resume" in said.decode()
    assert left(tmp_path) == ["tidy", "tmp"]
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in running.splitlines() if "time.sleep(60)" in line and str(tmp_path) in line]


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """Under `nohup` a closed terminal ends nothing."""
    line = f"trap '' HUP; exec {sys.executable} -c \"$S\" {tmp_path}"
    child = subprocess.Popen(
        ["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "S": STAY}
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=30)
    assert child.returncode == 143
