"""The process as others see it: its standard streams, and the signals that ask it to end.

Streams. What a stream's encoding cannot write becomes a backslash escape. A stream that was closed before we
began reads and writes nothing. A reader that leaves (`| head`) ends a command quietly, as it ends any other.

Signals. SIGTERM and SIGHUP end a command as Ctrl-C does: whatever has to be tidied up (temporary folders,
children, a board) is. Further signals do not disturb that, for a while: then they end the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_PATIENCE_S = 10.0  # for tidying up, before another signal ends the process as it is


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Within the block, signals that end a process raise `Stopped` in it; what was ignored stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Stopped(number)
        if time.monotonic() - first[0] > _PATIENCE_S:
            os._exit(128 + number)

    before = {}
    for name in _ENDING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # After a stop all is tidied up and the process ends: what comes meanwhile changes nothing.
            signal.signal(number, signal.SIG_IGN if first else handler)


def ready_streams() -> None:
    """Give the process three streams that can be written to, whatever it was started with."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class OutputLost(OSError):
    """Standard output takes no more: its disk is full, say."""


def deliver(text: str) -> None:
    """Text and a line break on standard output. Raises `OutputLost`, and BrokenPipeError as it is."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(*error.args) from None


def flush_streams() -> None:
    """Deliver what was printed. Raises OSError where nobody takes it."""
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()


def silence_streams() -> None:
    """Drop what can no longer be delivered, so that the interpreter does not complain of it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def running(process: int) -> bool:
    """Whether a process of this machine has that number; true where nobody can tell."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True
