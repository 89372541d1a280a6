"""Runs on the board for the length of one connection. Python >= 3.8, no packages.

Travels as source text, with the text of `limits` before it.

Requests come on standard input as lines of JSON (`put` is followed by the file's bytes); answers (see
`measure.ssh.messages`) leave on standard output as lines that begin with `topovlm:`, so that what a login
shell prints is told apart. `host` and `ask_all` tell of this machine too (`topovlm.machine`).

All files lie in one private folder. It is removed, and what runs is killed, when the connection ends in any
way, when the other side is silent for too long, and on SIGHUP, SIGINT and SIGTERM. What a killed agent (out
of memory, say) left behind is removed by the next one.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

if __package__:  # on a board the text of limits.py has run before this one
    from .limits import memory_limits, usable_cores

MARK = b"topovlm:"
PREFIX = "topovlm-board-"
LOCK = ".held"
STALE_S = 600.0  # a younger folder may belong to an agent that is about to lock it
CHUNK_BYTES = 1 << 18
LARGEST_FACT_BYTES = 1 << 18
LONGEST_LINE_BYTES = 1 << 21  # of a program; a longer one arrives in pieces
LAST_LINES = 40


class Refusal(Exception):
    """An answer that is not `ok`: `kind` for the program, the text for a person."""

    def __init__(self, kind: str, text: str, **facts: object) -> None:
        super().__init__(text)
        self.kind, self.facts = kind, facts


class Agent:
    """One connection: its folder, its child process, its last sign of life."""

    def __init__(self, silence_s: float) -> None:
        self.silence_s = silence_s
        self.folder: str | None = None
        self.lock: int | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.heard = time.monotonic()
        self.writing = threading.Lock()
        self.ending = threading.Lock()
        self.input = sys.stdin.buffer

    # -- talking ------------------------------------------------------------------------------------
    def say(self, kind: str, **message: object) -> None:
        data = MARK + json.dumps(dict(message, kind=kind)).encode() + b"\n"
        with self.writing:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def serve(self) -> None:
        """Answer requests until `close` or the end of the connection."""
        self.say("hello", **host())
        for line in iter(self.input.readline, b""):
            self.heard = time.monotonic()
            request = json.loads(line.decode())
            name = request.pop("op")
            number = request.pop("id", 0)
            if name == "close":
                self.clean()
                self.say("done", id=number)
                return
            try:
                answer = getattr(self, "do_" + name)(number, **request)
            except Refusal as refusal:
                answer = dict(refusal.facts, kind="refused", error=refusal.kind, text=str(refusal))
            except OSError as error:
                answer = {"kind": "refused", "error": disk_word(error), "text": str(error)}
            if answer is not None:
                self.say(id=number, **answer)

    # -- requests -----------------------------------------------------------------------------------
    def do_ping(self, number: int) -> None:
        """A sign of life."""

    def do_look(
        self, number: int, patterns: Sequence[str], questions: Mapping[str, Sequence[Sequence[str]]]
    ) -> dict[str, object]:
        """Texts of the files that match, and what small tools answer; absent ones are left out."""
        files = {}
        for pattern in patterns:
            for path in glob.glob(pattern):
                text = read_fact(path)
                if text is not None:
                    files[path] = text
        return {"kind": "looked", "files": files, "answers": ask_all(questions)}

    def do_open(self, number: int, need_bytes: int) -> dict[str, object]:
        """Make the private folder at the first place with room for `need_bytes`."""
        import fcntl

        self.clean()
        places: list[list[object]] = []
        for parent in parents():
            sweep(parent)
            try:
                free = free_bytes(parent)
                if free >= need_bytes:
                    self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
                    self.lock = os.open(os.path.join(self.folder, LOCK), os.O_CREAT | os.O_RDWR, 0o600)
                    fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return {"kind": "done"}
                places.append([parent, free, "too little space"])
            except OSError as error:
                self.clean()
                places.append([parent, 0, error.strerror or str(error)])
        raise Refusal("disk", "no place has the space", places=places)

    def do_put(self, number: int, path: str, size: int, sha256: str) -> dict[str, object]:
        """Receive a file; after a failed write the rest is still read, so that the stream stays in step."""
        target = self.inside(path)
        state, received, file = hashlib.sha256(), 0, None
        failure: OSError | None = None
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            file = open(target, "wb")  # noqa: SIM115
        except OSError as error:
            failure = error
        while received < size:
            chunk = self.input.read(min(CHUNK_BYTES, size - received))
            if not chunk:
                raise EOFError
            self.heard = time.monotonic()
            received += len(chunk)
            if file is None or failure is not None:
                continue
            try:
                file.write(chunk)
                state.update(chunk)
                self.say("received", id=number, received=received)
            except OSError as error:
                failure = error
                self.say("refused", id=number, error=disk_word(error), text=str(error))
        try:
            if file is not None:
                file.close()
        except OSError as error:
            failure = failure or error
        if failure is not None:
            raise failure
        if state.hexdigest() != sha256:
            raise Refusal("damaged", path + " arrived damaged")
        return {"kind": "done"}

    def do_copy(self, number: int, source: str, path: str) -> dict[str, object]:
        """A second name for a file that is there already."""
        target = self.inside(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            os.link(self.inside(source), target)
        except OSError:
            shutil.copyfile(self.inside(source), target)
        return {"kind": "done"}

    def do_start(self, number: int, argv: list[str], limit_s: float) -> None:
        """Run a program in the folder; its lines, then its exit status, follow under this number."""
        argv = [sys.executable if word == "{python}" else word for word in argv]
        # Libraries that write into the temporary folder (ONNX Runtime does) write into ours.
        extra = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": self.inside(".")}
        try:
            self.child = subprocess.Popen(
                argv,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(os.environ, **extra),
                start_new_session=True,
            )
        except OSError as error:
            raise Refusal("program", f"{argv[0]}: {error.strerror}") from None
        threading.Thread(target=self.follow, args=(number, self.child, limit_s), daemon=True).start()

    def do_tell(self, number: int, text: str) -> None:
        """A line to the running program's standard input."""
        if self.child is not None and self.child.stdin is not None:
            with contextlib.suppress(OSError):  # it may have ended: its exit status is on the way then
                self.child.stdin.write(text.encode() + b"\n")
                self.child.stdin.flush()

    def do_stop(self, number: int) -> None:
        """End the running program and all that it started."""
        kill(self.child)

    # -- the inside ---------------------------------------------------------------------------------
    def inside(self, path: str) -> str:
        """The whole path of a file in the folder."""
        whole = os.path.normpath(os.path.join(self.folder or "", path))
        if self.folder is None or not (whole + os.sep).startswith(self.folder + os.sep):
            raise Refusal("path", path + " lies outside of the folder")
        return whole

    def follow(self, number: int, child: subprocess.Popen[bytes], limit_s: float) -> None:
        """Pass on a program's lines; kill it at its limit."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            kill(child)

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        errors = threading.Thread(
            target=lambda: last.extend(text(line) for line in lines_of(child.stderr)), daemon=True
        )
        errors.start()
        try:
            for line in lines_of(child.stdout):
                self.say("line", id=number, line=text(line))
            status = child.wait()
            errors.join(5)
            timer.cancel()
            self.say("ended", id=number, status=status, late=late.is_set(), errors=list(last))
        except OSError:
            self.leave()  # nobody listens any more

    def watch(self) -> None:
        """Leave when the other side is silent: a network that is gone does not end a connection."""
        while True:
            time.sleep(self.silence_s / 10)
            if time.monotonic() - self.heard > self.silence_s:
                self.leave()

    def clean(self) -> None:
        """Kill what runs, remove the folder."""
        with self.ending:
            kill(self.child)
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder = None
            if self.lock is not None:
                os.close(self.lock)
                self.lock = None

    def leave(self) -> None:
        """Tidy up and end: nobody is there any more."""
        self.clean()
        os._exit(1)


def host() -> dict[str, object]:
    """The system and this process (`topovlm.machine.host.Host`): decides whether anything can run here."""
    memory = memory_limits()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "byteorder": sys.byteorder,
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "memory_total_bytes": memory.total_bytes,
        "memory_free_bytes": memory.free_bytes,
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def parents() -> list[str]:
    """Where the folder may lie: what the user set as TMPDIR, else the usual places in turn."""
    chosen = os.environ.get("TMPDIR")
    return [chosen] if chosen else ["/tmp", "/var/tmp", os.path.expanduser("~")]


def sweep(parent: str) -> None:
    """Remove what an agent of the same user left that did not live to do it."""
    import fcntl

    for folder in glob.glob(os.path.join(glob.escape(parent), PREFIX + "*")):
        try:
            status = os.lstat(folder)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            if time.time() - status.st_mtime < STALE_S:
                continue
            lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
        except OSError:
            continue  # still held, or gone meanwhile


def free_bytes(parent: str) -> int:
    """Bytes that are free at a place."""
    room = os.statvfs(parent)
    return room.f_bavail * room.f_frsize


def disk_word(error: OSError) -> str:
    """`disk` for a place that is full, `system` for anything else."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "disk" if error.errno in full else "system"


def read_fact(path: str) -> str | None:
    """The text of a small file; None when it is absent or not ours to read."""
    try:
        with open(path, "rb") as file:
            return text(file.read(LARGEST_FACT_BYTES))
    except OSError:
        return None


def ask_all(questions: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[Any]]:
    """Tool -> [the first of its questions that it answers, its answer]; one that answers none is left out.

    A tool may refuse a whole question for one word that its version does not know: then it is asked less.
    """
    found = {}
    for tool, forms in questions.items():
        for argv in forms:
            answer = ask(argv)
            if answer:
                found[tool] = [list(argv), answer]
                break
    return found


def ask(command: Sequence[str]) -> str | None:
    """What a small tool prints; None when it is absent, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return text(done.stdout) if done.returncode == 0 else None


def lines_of(stream: Any) -> Any:
    """A program's lines as they come, none longer than the limit."""
    return iter(lambda: stream.readline(LONGEST_LINE_BYTES), b"")


def text(data: bytes) -> str:
    """A line or a file as text, whatever its bytes are."""
    return data.decode("utf-8", "replace").rstrip("\n")


def kill(child: subprocess.Popen[bytes] | None) -> None:
    """A program and all that it started."""
    if child is None or child.poll() is not None:
        return
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def main() -> None:
    """Serve the connection on standard input and output."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(1)

    for name in ("SIGHUP", "SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), end)
    agent = Agent(silence_s=float(sys.argv[1]))
    threading.Thread(target=agent.watch, daemon=True).start()
    try:
        agent.serve()
    except (OSError, EOFError):
        pass  # the connection is gone: nobody to tell
    finally:
        agent.clean()


if __name__ == "__main__":
    main()
