"""The system and the process: what this machine says of itself, a board's agent says in the same words."""

from __future__ import annotations

from typing import Literal

from topovlm.records import Part, convert
from topovlm.travel import agent, limits


class Host(Part, frozen=True, kw_only=True):
    """`load_1min` is the count of running tasks, averaged over a minute."""

    python: str
    machine: str  # architecture
    system: str
    bits: int
    byteorder: Literal["little", "big"]
    cores: int  # of the machine
    usable_cores: int  # of this process
    memory_total_bytes: int | None  # for this process, as is what is free
    memory_free_bytes: int | None
    load_1min: float | None


def this_host() -> Host:
    """Look at the machine at hand."""
    return convert(agent.host(), Host, field="machine", name="local")


def usable_cores() -> int:
    """Cores that this process may run on: its affinity mask, cut by the quotas of its control groups."""
    return limits.usable_cores()


def free_memory_bytes() -> int | None:
    """What this process may still take without swapping: the system's, cut by its control groups' bounds."""
    return limits.memory_limits().free_bytes
