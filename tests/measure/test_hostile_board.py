"""Boards that flood, lie, drip or say nonsense: left in time, in little memory, with one sentence.

In the place of the ssh client a script plays the board: what it says is what an agent there could say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from topovlm.errors import MissingToolError
from topovlm.machine import look as looks
from topovlm.machine.tools import Answer
from topovlm.measure.ssh.address import COMMAND_VARIABLE, parse_address
from topovlm.measure.ssh.connection import Limits
from topovlm.measure.ssh.device import SshDevice
from topovlm.measure.ssh.messages import Malformed
from topovlm.measure.ssh.rounds import Asked, Rounds
from topovlm.travel.timer import MARK

HELLO = {
    "kind": "hello", "python": "3.11.2", "machine": "x86_64", "system": "Linux 6", "bits": 64,
    "byteorder": "little", "cores": 4, "usable_cores": 4, "load_1min": 0.1,
    "memory_total_bytes": 8 << 30, "memory_free_bytes": 4 << 30,
}  # fmt: skip

BOARD = f"""
import json, os, sys, time
def write(data):
    sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
def say(**message):
    write(b'topovlm:' + json.dumps(message).encode() + b'\\n')
def flood(data):
    block = data * max(1, (1 << 20) // len(data))
    while True:
        sys.stdout.buffer.write(block)
def hello(**more):
    say(**{{**{HELLO!r}, **more}})
def requests():
    "Passes over the agent's own source text; gives what is asked."
    for line in sys.stdin.buffer:
        if line.startswith(b'{{"op"') and b'"ping"' not in line:
            yield json.loads(line)
"""


def stubborn(kind: str) -> None:
    """A session with the board: what it asks of it, by name."""
    limits = Limits(greeting_s=2, reply_s=2, stall_s=2, load_s=2, quiet_s=2, grace_s=1)
    with SshDevice(parse_address("ssh://board"), limits=limits) as device:
        connection = device.connection
        if kind == "put":
            connection.put("x", b"x" * (1 << 23), "0" * 64, lambda done: None)
        elif kind == "run":
            connection.start("running", ["true"], 1, lambda line: None)
        else:
            device.identify()


# In a process of its own: how long it took and how much it held.
SESSION = r"""
import json, re, sys, time
from pathlib import Path
from tests.measure.test_hostile_board import stubborn
from topovlm.errors import TopovlmError
began, said = time.monotonic(), ''
try:
    stubborn(sys.argv[1])
except TopovlmError as error:
    said = str(error)
# Not ru_maxrss, which remembers the process that started this one.
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps([said, time.monotonic() - began, peak]))
"""


def board(folder: Path, script: str) -> str:
    """The command that plays a board which runs `script`."""
    file = folder / "board.py"
    file.write_text(BOARD + textwrap.dedent(script))
    return f"{sys.executable} {file}"


FLOODS = {
    "noise before a word": ("flood(b'login noise\\n')", "identify", "connecting"),
    "a line without an end": ("flood(b'x')", "identify", "connecting"),
    "zeros": ("flood(b'\\0')", "identify", "connecting"),
    "complaints": ("os.dup2(2, 1); flood(b'complaint')", "identify", "connecting"),
    "hellos": (f"flood(b'topovlm:' + json.dumps({HELLO!r}).encode() + b'\\n')", "identify", ""),
    "answers to nobody": (
        "hello(); flood(b'topovlm:' + json.dumps({'kind': 'done', 'id': 999}).encode() + b'\\n')",
        "identify",
        "no answer for 2 s",
    ),
    "long messages": (
        "hello(); flood(b'topovlm:' + json.dumps({'kind': 'ended', 'id': 999, 'status': 0, 'late': False, "
        "'errors': [''] * 1500000}).encode() + b'\\n')",
        "identify",
        "",  # too long without an answer, or too much of it: whichever comes first
    ),
    "lines of a program": (
        """
        hello()
        request = next(requests())
        line = json.dumps(dict(kind='line', id=request['id'], line='x' * 8000))
        flood(b'topovlm:' + line.encode() + b'\\n')
        """,
        "run",
        "running: ",
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_left(kind: str, tmp_path: Path) -> None:
    """Within seconds and a few hundred MB, whatever it consists of."""
    script, what, words = FLOODS[kind]
    done = subprocess.run(
        [sys.executable, "-c", SESSION, what],
        env={**os.environ, COMMAND_VARIABLE: board(tmp_path, script)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said, seconds, peak_bytes = json.loads(done.stdout)
    assert said
    assert words in said
    assert seconds < 60
    assert peak_bytes < 700 << 20


LIES = {
    "nothing": ("time.sleep(60)", "identify", "said nothing for 2 s"),
    "a drip": ("[(write(b'x'), time.sleep(0.2)) for _ in range(300)]", "identify", "said nothing for 2 s"),
    "no greeting": ("say(kind='done', id=0)", "identify", "no greeting"),
    "depth": ("write(b'topovlm:' + b'[' * 10**6 + b'\\n')", "identify", "cannot be read"),
    "no number": ("hello(load_1min=float('nan'))", "identify", "cannot be read"),
    "a huge number": ("hello(cores=10**30)", "identify", "cannot be read"),
    "another kind": ("hello(cores='four')", "identify", "cannot be read"),
    "minus": ("hello(usable_cores=-4)", "identify", "cannot be read"),
    "a version": ("hello(python='²')", "identify", "3.8 or later"),
    "escapes": ("hello(machine='\\x1b]0;t\\x07\\n::error::x')", "identify", "\\x1b]0;t\\x07 ::error"),
    "a program that never ends": (
        """
        hello()
        request = next(requests())
        while True:
            say(kind='line', id=request['id'], line='still here'); time.sleep(0.2)
        """,
        "run",
        "has not ended in its time",
    ),
    "bytes that were never sent": (
        "hello(); [say(kind='received', id=r['id'], received=1 << 40) for r in requests()]",
        "put",
        "cannot be read",
    ),
    "no progress": (
        "hello(); [say(kind='received', id=r['id'], received=0) for r in requests()]",
        "put",
        "cannot be read",
    ),
    "nothing is taken": ("hello(); time.sleep(60)", "put", "took longer than 2 s"),
    "something else came": (
        """
        hello()
        request = next(requests())
        sys.stdin.buffer.read(1 << 20)
        say(kind='line', id=request['id'], line='')
        """,
        "put",
        "another kind",
    ),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_lie_is_one_sentence(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the board and the step, within the limits of waiting."""
    script, what, words = LIES[kind]
    monkeypatch.setenv(COMMAND_VARIABLE, board(tmp_path, script))
    began = time.monotonic()
    with pytest.raises(MissingToolError) as raised:
        stubborn(what)
    said = str(raised.value)
    assert said.startswith("--device = 'ssh://board': ")
    assert words in said
    assert said.isprintable()
    assert len(said) < 6000
    assert time.monotonic() - began < 30


def test_more_rounds_than_were_asked_for() -> None:
    """They are not kept: a board could fill the memory with them."""
    rounds = Rounds(Asked({"a": "a"}, new_tokens=2), 1, lambda runs: False, None, most=3)
    loaded = {
        "name": "a",
        "load_ms": 1.0,
        "threads": 1,
        "providers": {"decoder": ["CPU"]},
        "dtype": "float32",
    }
    times = {"vision_ms": 1.0, "embed_ms": 1.0, "prefill_ms": 1.0, "token_ms": [1.0]}
    rounds.line(MARK + json.dumps({"kind": "loaded", **loaded}))
    line = MARK + json.dumps({"kind": "round", "spent_s": 1.0, "order": ["a"], "runs": {"a": times}})
    for _ in range(3):
        rounds.line(line)
    with pytest.raises(Malformed, match="more than the 3 rounds"):
        rounds.line(line)


@pytest.mark.parametrize("providers", [{}, {"decoder": []}])
def test_an_engine_that_runs_on_nothing(providers: dict[str, list[str]]) -> None:
    """What runs the decoder has to be said: reports name it."""
    rounds = Rounds(Asked({"a": "a"}, new_tokens=2), 1, lambda runs: False, None)
    loaded = {"name": "a", "load_ms": 1.0, "threads": 1, "providers": providers, "dtype": "float32"}
    with pytest.raises(Malformed, match="does not say what runs its decoder"):
        rounds.line(MARK + json.dumps({"kind": "loaded", **loaded}))


def test_facts_that_are_none() -> None:
    """Numbers that are no numbers, names that no file system holds, paths that nobody reads: left out."""
    files = {
        "/proc/meminfo": "MemTotal: " + "9" * 5000 + " kB\nMemAvailable: 1000 kB\n",
        "/proc/cpuinfo": "cpu MHz : 1.2.3.4\nmodel name: \x1b[31mcpu\n",
        "/sys/class/thermal/thermal_zone0/temp": "nan",
        "/sys/class/thermal/thermal_zone1/temp": "inf",
        "/sys/class/thermal/thermal_zone2/temp": "41000",
        "/sys/class/devfreq/gpu/cur_freq": "1e300",
        "/sys/class/devfreq/gpu/governor": "x",
        "/sys/class/hwmon/hwmon²/name": "x",
        "/sys/class/hwmon/" + "h" * 5000 + "/name": "x",
        "/sys/class/hwmon/nul\0/name": "x",
        "/var/lib/nvpmodel/status": "9" * 5000,
        "/etc/passwd": "x",
        "/../../etc/shadow": "x",
    }
    found = looks.understand(files, {"nvidia-smi": Answer(("nvidia-smi",), "a, b")})
    assert found.memory_available_bytes == 1000 * 1024
    assert found.telemetry.temperatures_c == {"thermal_zone2": 41.0}
    assert found.telemetry.gpus == ()
