"""Deployments to disturb: command line, surroundings, copies of a finished one, what is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIDDEN = Path(".topovlm")
_MARK = "TOPOVLM_RESUME_CASE"  # in the environment of every process that a case starts
# Of libraries, in every process that loads them: ONNX Runtime's, and the folder of torch's compiler.
_NOT_OURS = re.compile(r"torchinductor_.*")


@dataclass(frozen=True)
class Ended:
    """Exit code, the last line on standard error, and the JSON document where there is one."""

    code: int
    last: str
    document: dict[str, Any]

    @property
    def sentence(self) -> bool:
        """Whether the user was told in one sentence: no traceback, no internal error."""
        return self.last.startswith("topovlm: ") and "internal error" not in self.last


@dataclass(frozen=True)
class Surroundings:
    """Where the commands of a case may leave things: folders of their own for temporary files and caches."""

    room: Path

    @property
    def temporary(self) -> Path:
        return self.room / "tmp"

    def environment(self) -> dict[str, str]:
        """Caches that only make things faster are shared; all else lies in the room."""
        for name in ("tmp", "home"):
            (self.room / name).mkdir(parents=True, exist_ok=True)
        home = str(self.room / "home")
        shared = {"MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(self.room.parent / "matplotlib"))}
        return {
            **os.environ,
            **shared,
            _MARK: str(self.room),
            "TMPDIR": str(self.temporary),
            "XDG_STATE_HOME": home,
            "XDG_CACHE_HOME": home,
        }

    def left(self) -> list[str]:
        """Temporary files that are still there."""
        return [path.name for path in sorted(self.temporary.iterdir()) if not _NOT_OURS.fullmatch(path.name)]

    def processes(self, patience_s: float = 2.0) -> list[int]:
        """Processes of this case that still run after `patience_s` (Linux)."""
        mark = f"{_MARK}={self.room}".encode()
        until = time.monotonic() + patience_s
        while True:
            alive = [int(p.name) for p in Path("/proc").glob("[0-9]*") if mark in _environ(p).split(b"\0")]
            if not alive or time.monotonic() > until:
                return alive
            time.sleep(0.05)


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # gone, or another user's
        return b""


def start(words: Sequence[str], out: Path, around: Surroundings) -> subprocess.Popen[str]:
    """A deployment into `out`, as a user would type it."""
    command = [sys.executable, "-m", "topovlm", "deploy", *words, "-o", str(out), "--json"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=around.environment(),
        cwd=around.room,
    )


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a deployment."""
    out, err = process.communicate()
    lines = [line for line in err.splitlines() if line.strip()]
    try:
        document = json.loads(out)
    except json.JSONDecodeError:
        document = {}
    return Ended(process.returncode, lines[-1] if lines else "", document)


def run(words: Sequence[str], out: Path, around: Surroundings) -> Ended:
    """A deployment from start to end."""
    return end(start(words, out, around))


def stages_of(out: Path) -> dict[str, float]:
    """The stages of a finished run, in order, and the seconds that each took."""
    stages = json.loads((out / "run.json").read_text())["stages"]
    return {name: facts["seconds"] for name, facts in stages.items()}


def record(out: Path, stage: str) -> Path:
    """The record of a stage."""
    return out / HIDDEN / "stages" / f"{stage}.json"


def outputs(out: Path, stage: str) -> list[str]:
    """Files and folders of a stage, by their names in the run directory."""
    return list(json.loads(record(out, stage).read_text())["outputs"])


def without(source: Path, target: Path, stages: Sequence[str]) -> None:
    """A copy of a run in which `stages` have not run: neither their records nor their files are there."""
    gone = [source / name for stage in stages for name in outputs(source, stage)]
    gone += [record(source, stage) for stage in stages]
    if stages:
        gone.append(source / "run.json")
    shutil.copytree(
        source,
        target,
        dirs_exist_ok=True,
        ignore=lambda folder, names: {name for name in names if Path(folder) / name in gone},
    )


def half_done(out: Path) -> list[str]:
    """What a run that has ended must not hold: temporary files and half-done work."""
    found = [*out.rglob(".*.tmp"), *(out / HIDDEN / "work").glob("*")]
    return sorted(path.relative_to(out).as_posix() for path in found)


def wait_for(process: subprocess.Popen[str], out: Path, stage: str) -> bool:
    """Until `stage` works, or has ended already; False when the run is over before."""
    work = out / HIDDEN / "work" / stage
    while not work.exists():
        if process.poll() is not None:
            return False
        if record(out, stage).exists():
            return True  # faster than we can look: the moment is between this stage and the next
        time.sleep(0.002)
    return True


def interrupt(process: subprocess.Popen[str], number: signal.Signals, after_s: float) -> Ended:
    """Send a signal after a while; returns how the process ended."""
    time.sleep(after_s)
    process.send_signal(number)
    return end(process)
