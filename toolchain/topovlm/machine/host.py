"""The system and the process: what this machine says of itself, a board's agent says in the same words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Annotated, Literal

from msgspec import Meta

from topovlm.records import Part, convert
from topovlm.travel import agent, limits, timer

Cores = Annotated[int, Meta(ge=1, le=1 << 16)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 53)]
MOST_OF_MEMORY = 0.6  # for weights: beside them are activations, pictures and the libraries
_BOUND: ContextVar[int | None] = ContextVar("memory_bound", default=None)


class Host(Part, frozen=True, kw_only=True):
    """`load_1min` is the count of running tasks, averaged over a minute."""

    python: str
    machine: str  # architecture
    system: str
    bits: int
    byteorder: Literal["little", "big"]
    cores: Cores  # of the machine
    usable_cores: Cores  # of this process
    memory_total_bytes: Bytes | None  # for this process, as is what is free
    memory_free_bytes: Bytes | None
    load_1min: Annotated[float, Meta(ge=0, le=1e9)] | None


def this_host() -> Host:
    """Look at the machine at hand."""
    return convert(agent.host(), Host, field="machine", name="local")


def usable_cores() -> int:
    """Cores that this process may run on: its affinity mask, cut by the quotas of its control groups."""
    return limits.usable_cores()


@contextlib.contextmanager
def memory_bound(most_bytes: int | None) -> Iterator[None]:
    """Within the block this process takes itself for bound to so much memory (None: as it is)."""
    held = _BOUND.set(most_bytes if most_bytes is not None else _BOUND.get())
    try:
        yield
    finally:
        _BOUND.reset(held)


def free_memory_bytes() -> int | None:
    """What this process may still take without swapping: the system's, cut by its control groups' bounds and
    by that of `memory_bound`."""
    free = limits.memory_limits().free_bytes
    bound = _BOUND.get()
    if bound is None:
        return free
    left = max(0, bound - resident_bytes())
    return left if free is None else min(free, left)


def resident_bytes(*, peak: bool = False) -> int:
    """Resident memory of this process, now or at its highest."""
    try:
        # Not ru_maxrss on Linux: it keeps the parent's peak through fork and exec.
        return timer.resident_bytes("VmHWM" if peak else "VmRSS")
    except (OSError, StopIteration):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024


def memory_bytes() -> int | None:
    """What this process may take at most, whatever it holds and others use: the same in every run."""
    known = [value for value in (limits.memory_limits().total_bytes, _BOUND.get()) if value is not None]
    return min(known, default=None)
