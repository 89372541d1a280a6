"""What must hold of a board before anything large is sent there: (what is wrong, remedy), or None."""

from __future__ import annotations

import re

from topovlm.machine.host import Host
from topovlm.machine.look import Look
from topovlm.measure.ssh.address import Address
from topovlm.measure.ssh.backends import Backend, backends
from topovlm.measure.ssh.messages import Runtimes
from topovlm.measure.ssh.parcel import Parcel
from topovlm.predict.target import recognise
from topovlm.units import format_bytes

Complaint = tuple[str, str] | None
_MACHINES = ("x86_64", "aarch64")
_LEAST_PYTHON = (3, 8)
_MEMORY_COPIES = 1.2  # of the graphs' bytes, while they load


def target_of(look: Look) -> str | None:
    """Id of the known target that the board is; None when it is none of them."""
    return recognise(look.compatible, [gpu["name"] for gpu in look.telemetry.gpus if "name" in gpu])


def machine(host: Host, address: Address) -> Complaint:
    """Python, system and architecture."""
    version = tuple(int(part) for part in re.findall(r"[0-9]{1,4}", host.python)[:2])
    if version < _LEAST_PYTHON:
        rule = f"its {address.python} is Python {host.python}; 3.8 or later is needed"
        return rule, f"Name another one: {address.text}?python=/path/to/bin/python"
    if not host.system.startswith("Linux"):
        rule = f"it runs {host.system}; a board is measured under Linux"
        return rule, "Measure that machine with --device local, on itself"
    if host.machine not in _MACHINES or host.bits != 64 or host.byteorder != "little":
        rule = (
            f"wrong architecture: {host.machine}, {host.bits}-bit Python; no runtime for these "
            f"graphs exists for it (64-bit {' or '.join(_MACHINES)} is needed)"
        )
        return rule, "Install a 64-bit system, or use another board"
    return None


def runtime(runtimes: Runtimes, backend: Backend, address: Address) -> Complaint:
    """numpy and the backend's package in the board's Python."""
    needed = ("numpy", backend.package)
    lacking = [name for name in needed if name in runtimes.lacking]
    if not lacking:
        return None
    why = "; ".join(runtimes.lacking[name] for name in lacking)
    rule = f"missing runtime: {runtimes.python} has no {' and no '.join(lacking)} ({why})"
    others = " or ".join(row.needs for row in backends() if row.native)
    return rule, (
        f"On the board: {runtimes.python} -m pip install {' '.join(lacking)} (a Jetson's GPU needs "
        f"NVIDIA's own onnxruntime-gpu wheel, or {others} for this Python), or name a "
        f"Python that has them: {address.text}?python=/path/to/bin/python"
    )


def memory(look: Look, parcel: Parcel) -> Complaint:
    """MemAvailable against the graphs."""
    free, need = look.memory_available_bytes, round(_MEMORY_COPIES * parcel.loaded_bytes)
    if free is None or need <= free:
        return None
    rule = f"the graphs need about {format_bytes(need)} of memory, {format_bytes(free)} are available"
    return rule, "Stop other programs there (the desktop takes about 1 GiB), or time fewer models at once"
