"""Commands in processes of their own, without paying for the imports each time.

A server (`python -m benchmarks.fuzzing.forks`) imports what the commands import and forks once per command:
the child is `topovlm` with its own standard streams, folder, session and limits, or (`fresh`) becomes a new
interpreter. Requests and answers are lines of JSON on the server's standard input and output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CLOCK_S = 60.0  # a command that sleeps, or waits for a terminal, ends here
_MOST_BYTES = 4 << 30  # a command that grows past this is ended before the machine suffers
_LOOK_S = 0.005


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative for a signal), times, peak memory, why we stopped it."""

    code: int
    clock_s: float
    cpu_s: float
    peak_bytes: int
    stopped: str | None = None


def _watch(pid: int, began: float) -> Ended:
    """Wait for a child; end its whole session when it takes too long or too much."""
    stopped: str | None = None
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        clock_s = time.perf_counter() - began
        if done:
            cpu_s = usage.ru_utime + usage.ru_stime
            code = os.waitstatus_to_exitcode(status)
            return Ended(code, clock_s, cpu_s, usage.ru_maxrss * 1024, stopped)
        if stopped is None and clock_s > _CLOCK_S:
            stopped = "time"
        elif stopped is None and _resident_bytes(pid) > _MOST_BYTES:
            stopped = "memory"
        if stopped:
            _end_session(pid)
        time.sleep(_LOOK_S)


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # gone, or not Linux
        return 0
    return pages * resource.getpagesize()


def _end_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _limits() -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Should the watch below come too late: a machine that swaps watches nothing.
    resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, 2 << 30))


def _become(
    words: Sequence[str], *, folder: str, out: str, err: str, fresh: bool, modules: str | None
) -> int:
    """In the child: run the command with its streams in files; returns the exit code."""
    _limits()
    os.chdir(folder)
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        handle = os.open(path, flags, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "topovlm", *words])
    sys.argv = ["topovlm", *words]
    from topovlm.cli import main

    try:
        code = main(list(words))
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # what an interpreter would print and exit 1 for: it is what we look for
        import traceback

        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if modules:
        Path(modules).write_text(json.dumps(sorted(sys.modules)))
    return code


def serve() -> None:
    """Answer requests until standard input closes."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if "import" in request:
            for name in request["import"]:
                try:
                    importlib.import_module(name)
                except Exception:  # a module that only its package can import: the child imports it again
                    continue
            answers.write("{}\n")
        else:
            began = time.perf_counter()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = _become(**request)
                finally:
                    os._exit(code)
            answers.write(json.dumps(asdict(_watch(pid, began))) + "\n")
            _end_session(pid)  # whatever it left running
        answers.flush()


class Server:
    """One forking server, and the environment that its commands see."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzzing.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.env,
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def load(self, modules: Sequence[str]) -> None:
        """Import once what commands import, so that a fork has it."""
        self._ask({"import": list(modules)})

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        streams: tuple[Path, Path],
        *,
        fresh: bool = False,
        modules: Path | None = None,
    ) -> Ended:
        """Run one command in a fork, or a `fresh` interpreter, its standard output and error in `streams`.

        With `modules`, a fork writes there what it had imported in the end.
        """
        out, err = map(str, streams)
        request = {"words": list(words), "folder": str(folder), "out": out, "err": err, "fresh": fresh}
        return Ended(**self._ask({**request, "modules": str(modules) if modules else None}))

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    serve()
