"""What a board says, as it comes: messages in their order, and the last of the noise around them.

A board may say anything, at any rate. What waits to be read here, how long a line is, and how much it says to
one request are bounded: a board that floods is left, and its flood is never held.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from time import monotonic
from typing import IO

from topovlm.measure.ssh import messages
from topovlm.measure.ssh.messages import LONGEST_BYTES, Malformed, Message
from topovlm.travel import agent
from topovlm.units import format_bytes

MOST_WAITING_BYTES = 1 << 24  # the board is not read any further meanwhile
MOST_BYTES = 1 << 28  # to one request
_NOISE_BYTES = 1 << 12  # of a line that is kept for an error
Answer = Message | Malformed | None  # None: the connection ended


class Incoming:
    """Reads both streams of the client, each in a thread. `noise`: the last lines that are no messages."""

    def __init__(self, out: IO[bytes], errors: IO[bytes]) -> None:
        self.noise: deque[str] = deque(maxlen=40)
        self._streams = (out, errors)
        self._answers: deque[tuple[Answer, int]] = deque()
        self._waiting = self._said = 0  # bytes
        self._change = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._read, args=(out,), daemon=True),
            threading.Thread(target=self._read_errors, args=(errors,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def request(self) -> None:
        """A request begins: what is said from now on is said to it."""
        with self._change:
            self._said = 0

    def get(self, until: float = 0.0) -> Answer:
        """The next message. Raises queue.Empty when there is none before `until` (by `monotonic`)."""
        with self._change:
            while not self._answers:
                left = until - monotonic()
                if left <= 0 or not self._change.wait(left):
                    raise queue.Empty
            answer, size = self._answers.popleft()
            self._waiting -= size
            self._change.notify_all()
            return answer

    def join(self, patience_s: float = 2.0) -> None:
        """Let the threads take in what is there."""
        for thread in self._threads:
            thread.join(patience_s)

    def close(self) -> None:
        """Stop reading; a client that lives on may hold a stream."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self.join()
        for thread, stream in zip(self._threads, self._streams, strict=True):
            if not thread.is_alive():
                stream.close()

    def _put(self, answer: Answer, size: int) -> bool:
        """Hand on a message; False when nobody wants any more."""
        with self._change:
            while self._waiting > MOST_WAITING_BYTES and not self._closed:
                self._change.wait()
            self._answers.append((answer, size))
            self._waiting += size
            self._change.notify_all()
            return not self._closed

    def _read(self, stream: IO[bytes]) -> None:
        while line := stream.readline(LONGEST_BYTES):
            with self._change:
                self._said += len(line)
                flood = self._said > MOST_BYTES
            if flood:
                self._put(Malformed(f"it says more than {format_bytes(MOST_BYTES)} at once"), 0)
                break
            mark, found, rest = line.partition(agent.MARK)
            if not found or mark.strip() or (not line.endswith(b"\n") and len(line) < LONGEST_BYTES):
                # What a login shell prints, or a line that was cut with the connection.
                self.noise.append(line[:_NOISE_BYTES].decode("utf-8", "replace").strip())
                continue
            answer: Answer
            try:
                answer = messages.read_message(rest)
            except Malformed as error:
                answer = error
            if not self._put(answer, len(line)):
                break
        self._put(None, 0)

    def _read_errors(self, stream: IO[bytes]) -> None:
        while line := stream.readline(_NOISE_BYTES):
            text = line.decode("utf-8", "replace").strip()
            if text:
                self.noise.append(text)
