"""One connection to a board, over which everything goes: requests, files, lines of running programs.

The OpenSSH client runs as a child with three pipes. Its other end is `travel.agent`, which removes all that
it made when the connection ends, so nothing here needs a second connection to tidy up.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeVar

from topovlm.measure.ssh import messages
from topovlm.measure.ssh.address import Address, complaint, no_python
from topovlm.measure.ssh.failures import ConnectionLost, DeviceError, DeviceTimeout
from topovlm.measure.ssh.incoming import Incoming
from topovlm.measure.ssh.messages import Hello, Malformed, Message, Refused
from topovlm.records import Part
from topovlm.travel import agent, limits
from topovlm.units import format_bytes

_SLOWEST_BYTES_PER_S = 1 << 14  # of an upload
_WINDOW = 4  # chunks under way; fits into the channel's own buffers, so that a write never blocks for good
M = TypeVar("M", bound=Part)
_ALIVE_ANYWAY = "Nothing was left on the board: its part of the program removes its files itself"


@dataclass(frozen=True)
class Limits:
    """Seconds before a silent board is given up."""

    connect_s: float = 15.0
    greeting_s: float = 30.0  # from the start of the client to the agent's first word
    reply_s: float = 60.0
    stall_s: float = 60.0  # an upload that does not advance
    load_s: float = 1800.0  # beside the measurement itself: loading, building engines, warm-up
    silence_s: float = 60.0  # without a sign of life from here the board's side tidies up and leaves
    grace_s: float = 30.0  # for the word that a program was stopped at its limit
    quiet_s: float = 1800.0  # a program that prints nothing (a large engine is being built)


@dataclass(frozen=True)
class Finished:
    """A program that ended by itself: `status` as the shell has it, the last lines of standard error."""

    status: int
    errors: tuple[str, ...]


class Connection:
    """Use as a context manager. Every method raises `DeviceError` with host, step, what happened, remedy.

    `hello` is the agent's first word; None before it.
    """

    def __init__(self, address: Address, limits: Limits | None = None) -> None:
        self.address, self.limits = address, limits or Limits()
        self.hello: Hello | None = None
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._number = 0
        self._sending = False  # in the middle of a file: no request would be understood
        self._overdue: str | None = None  # what took so long that the client was stopped

    def __enter__(self) -> Connection:
        texts = [Path(str(part.__file__)).read_bytes() for part in (limits, agent)]
        source, sizes = b"".join(texts), tuple(map(len, texts))
        run = "exec(compile(sys.stdin.buffer.read(n),'topovlm-agent','exec'),globals())"
        boot = f"import sys;[{run} for n in {sizes}]"
        command = f'exec {self.address.python} -u -c "{boot}" {self.limits.silence_s:g}'
        argv = self.address.client(command, self.limits.connect_s)
        # A process group of its own: Ctrl-C is ours to handle, and the agent hears of it from us.
        self._client = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._client.stdout is not None
        assert self._client.stderr is not None
        self._incoming = Incoming(self._client.stdout, self._client.stderr)
        try:
            with contextlib.suppress(OSError):  # what the client has to say about it is worth more
                self._write(source)
            self.hello = self._greeting()
        except BaseException:
            self._end(patience_s=0.5)
            raise
        threading.Thread(target=self._live, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the agent tidy up, also after an error or Ctrl-C; a dead connection is closed at once."""
        with contextlib.suppress(DeviceError):
            if not self._sending:
                self._send("close")
            until = monotonic() + self.limits.reply_s / 6
            while not self._sending and monotonic() < until and self._client.poll() is None:
                with contextlib.suppress(queue.Empty):
                    message = self._incoming.get(until)
                    if message is None or (isinstance(message, messages.Done) and message.id == self._number):
                        break
        self._end()

    # -- requests -----------------------------------------------------------------------------------
    def call(self, step: str, operation: str, kind: type[M], **fields: object) -> M:
        """One request, one answer of that kind."""
        self._send(operation, fields, step=step)
        return self._expect(step, kind, self.limits.reply_s)

    def put(self, path: str, source: Path | bytes, sha256: str, progress: Callable[[int], None]) -> None:
        """Send a file into the board's folder and have it verified there; `progress` gets bytes arrived."""
        step = f"sending {path}"
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sent, arrived = 0, 0

        def advance(answer: messages.Received) -> int:
            if not arrived < answer.received <= sent:
                words = f"{answer.received} bytes arrived, after {arrived} and of {sent}"
                raise self._malformed(step, Malformed(words))
            progress(answer.received)
            return answer.received

        with self._within(self.limits.stall_s + size / _SLOWEST_BYTES_PER_S):
            with self._writing:
                self._send("put", {"path": path, "size": size, "sha256": sha256}, step=step, locked=True)
                self._sending = True
                for chunk in _chunks(source):
                    with self._within(self.limits.stall_s):
                        self._write_or_lost(chunk, step)
                    sent += len(chunk)
                    while sent - arrived >= _WINDOW * agent.CHUNK_BYTES:
                        arrived = advance(self._expect(step, messages.Received, self.limits.stall_s))
                self._sending = False
            while isinstance(answer := self._answer(step, self.limits.stall_s), messages.Received):
                arrived = advance(answer)
            if not isinstance(answer, messages.Done):
                raise self._malformed(step, Malformed(f"an answer of another kind: {answer}"))

    @contextlib.contextmanager
    def _within(self, limit_s: float) -> Iterator[None]:
        """Stop the client when the block takes longer: a board that takes nothing blocks a write for good."""

        def stop() -> None:
            self._overdue = f"took longer than {limit_s:.0f} s and was given up"
            self._client.kill()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def start(
        self, step: str, argv: list[str], limit_s: float, on_line: Callable[[str], str | None]
    ) -> Finished:
        """Run a program in the board's folder; what `on_line` returns is written to its standard input."""
        self._send("start", {"argv": argv, "limit_s": limit_s}, step=step)
        number, until = self._number, monotonic() + limit_s + self.limits.grace_s
        try:
            while True:
                answer = self._answer(step, min(self.limits.quiet_s, limit_s + self.limits.grace_s), until)
                if isinstance(answer, messages.OutputLine):
                    try:
                        said = on_line(answer.line)
                    except Malformed as error:
                        raise self._malformed(step, error) from None
                    if said:
                        self._send("tell", {"text": said}, step=step)
                        self._number = number
                    continue
                if not isinstance(answer, messages.Ended):
                    raise self._malformed(step, Malformed(f"an answer of another kind: {answer}"))
                if answer.late:
                    rule = f"took longer than {limit_s:g} s and was stopped"
                    raise DeviceTimeout(
                        self.address, step, rule, "Shorten the measurement, or give it more time"
                    )
                return Finished(answer.status, answer.errors)
        except ConnectionLost:
            raise
        except DeviceError:
            with contextlib.suppress(DeviceError):
                self._send("stop")
            raise

    # -- the stream ---------------------------------------------------------------------------------
    def _send(
        self,
        operation: str,
        fields: Mapping[str, object] | None = None,
        *,
        step: str = "ending",
        locked: bool = False,
    ) -> None:
        self._number += 1
        self._incoming.request()
        line = json.dumps({"op": operation, "id": self._number, **(fields or {})}).encode() + b"\n"
        if locked:
            self._write_or_lost(line, step)
            return
        with self._writing:
            self._write_or_lost(line, step)

    def _write_or_lost(self, data: bytes, step: str) -> None:
        try:
            self._write(data)
        except OSError:
            # An answer that lies there already (a full disk) says more than the broken pipe.
            with contextlib.suppress(queue.Empty):
                while True:
                    self._checked(step, self._incoming.get())
            raise self._lost(step) from None

    def _write(self, data: bytes) -> None:
        assert self._client.stdin is not None
        self._client.stdin.write(data)
        self._client.stdin.flush()

    def _expect(self, step: str, kind: type[M], limit_s: float) -> M:
        """The next answer, which must be of that kind."""
        answer = self._answer(step, limit_s)
        if not isinstance(answer, kind):
            raise self._malformed(step, Malformed(f"an answer of another kind: {answer}"))
        return answer

    def _answer(self, step: str, limit_s: float, until: float | None = None) -> Message:
        """The next answer to the present request, or what it (or its absence) means as an error.

        `until`: when all answers must be there, however many come.
        """
        silent = monotonic() + limit_s
        while True:
            last = silent if until is None else min(silent, until)
            try:
                if monotonic() > last:  # also among answers to other requests
                    raise queue.Empty
                answer = self._incoming.get(last)
            except queue.Empty:
                rule = "has not ended in its time" if last < silent else f"no answer for {limit_s:g} s"
                remedy = f"Check the board: {self.address.by_hand}. {_ALIVE_ANYWAY}"
                raise DeviceTimeout(self.address, step, rule, remedy) from None
            if answer is None or isinstance(answer, Malformed) or answer.id == self._number:
                return self._checked(step, answer)

    def _malformed(self, step: str, error: Malformed) -> DeviceError:
        rule = f"what it says cannot be read ({error})"
        return DeviceError(self.address, step, rule, "Run the same command again; report it if it stays")

    def _checked(self, step: str, answer: Message | Malformed | None) -> Message:
        """The answer, or what it (or its absence) means as an error."""
        if answer is None:
            raise self._lost(step)
        if isinstance(answer, Malformed):
            raise self._malformed(step, answer)
        if not isinstance(answer, Refused):
            return answer
        happened, remedy = answer.text, ""
        if answer.error == "disk":
            places = "; ".join(f"{p}: {format_bytes(free)} free" for p, free, _ in answer.places)
            happened = f"the board's disk is full ({places or happened})"
            remedy = (
                "Free some space there, or set TMPDIR on the board to a place that has it. " + _ALIVE_ANYWAY
            )
        raise DeviceError(self.address, step, happened, remedy)

    def _greeting(self) -> Hello:
        step = "connecting"
        try:
            hello = self._incoming.get(monotonic() + self.limits.greeting_s)
        except queue.Empty:
            rule = f"logged in or not, Python there said nothing for {self.limits.greeting_s:g} s"
            raise DeviceTimeout(
                self.address, step, rule, f"Try by hand: {self.address.by_hand} true"
            ) from None
        first = self._checked(step, hello)
        if not isinstance(first, Hello):
            raise self._malformed(step, Malformed(f"no greeting: {first}"))
        return first

    def _lost(self, step: str) -> DeviceError:
        """The connection ended: the client's own words say why, if it knows."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._client.wait(5)
        self._incoming.join()
        if self._overdue is not None:
            return DeviceTimeout(self.address, step, self._overdue, _ALIVE_ANYWAY)
        noise = self._incoming.noise
        status, errors = self._client.poll(), "\n".join(noise)
        known = complaint(self.address, errors)
        if known is None and not self.hello:
            known = no_python(self.address, status, errors)
        if known is not None:
            kind = ConnectionLost if self.hello else DeviceError
            return kind(self.address, step, *known)
        last = noise[-1] if noise else f"exit status {status}"
        if self.hello:
            rule = f"the connection was lost ({last})"
            return ConnectionLost(self.address, step, rule, f"Run the same command again. {_ALIVE_ANYWAY}")
        return DeviceError(
            self.address, step, f"no connection: {last}", f"Try by hand: {self.address.by_hand}"
        )

    def _live(self) -> None:
        """Signs of life, without which the agent would think us gone."""
        while not self._closed.wait(self.limits.silence_s / 6):
            with self._writing, contextlib.suppress(OSError, ValueError):
                self._write(b'{"op": "ping"}\n')

    def _end(self, patience_s: float = 5.0) -> None:
        """Close the pipes and reap the client; the end of its input is the agent's signal to leave."""
        self._closed.set()
        assert self._client.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._client.stdin.close()
        try:
            self._client.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._client.kill()
            self._client.wait()
        self._incoming.close()


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), agent.CHUNK_BYTES):
            yield source[start : start + agent.CHUNK_BYTES]
        return
    with source.open("rb") as file:
        while chunk := file.read(agent.CHUNK_BYTES):
            yield chunk
