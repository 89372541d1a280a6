"""Facts of the machine at hand that a measurement depends on: processor, memory, load, clocks, versions.

Read from /proc, /sys and the driver's own tool; what a system does not tell is None, never a guess.
Nothing here identifies a person or a host (no host name, no user, no serial number).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from topovlm.machine.telemetry import read_cpu_clocks, read_power_mode, read_text

_PACKAGES = ("topovlm", "onnxruntime", "onnxruntime-gpu", "numpy", "tokenizers", "pillow")
_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.max.sm",
    "temperature.gpu",
    "power.draw",
    "persistence_mode",
)
# Why the driver holds clocks down: under its present name, then the one before; else do without.
_GPU_REASONS = (("clocks_event_reasons.active",), ("clocks_throttle_reasons.active",), ())


@dataclass(frozen=True)
class Environment:
    """One look at the machine. `load_1min` is the count of running tasks, averaged over a minute."""

    system: str
    machine: str
    cpu: str
    cores: int  # of the machine
    usable_cores: int  # of this process
    governor: str | None
    cpu_mhz: float | None
    load_1min: float | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    board: str | None  # device-tree model, on boards that have one
    gpus: tuple[dict[str, str], ...]
    python: str
    versions: dict[str, str]
    power_mode: str | None = None  # by name, on boards that have modes

    def to_dict(self) -> dict[str, Any]:
        """JSON-able facts."""
        return {**asdict(self), "gpus": list(self.gpus)}

    def warnings(self) -> list[str]:
        """What makes timings on this machine doubtful, in words."""
        found = []
        if self.load_1min is not None and self.load_1min > 0.5 * self.cores:
            found.append(
                f"the machine is busy: load {self.load_1min:.1f} on {self.cores} cores; timings are inflated"
            )
        if self.governor not in (None, "performance", "schedutil"):
            found.append(f"the CPU governor is {self.governor!r}: clocks may be low or change during the run")
        return found


def describe_machine() -> Environment:
    """Look at the machine now."""
    memory, first = meminfo(), next(read_cpu_clocks(), None)
    return Environment(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        governor=first.governor if first else None,
        cpu_mhz=first.current_mhz if first and first.current_mhz else _nominal_mhz(),
        load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        board=_read("/proc/device-tree/model"),
        gpus=gpus(),
        python=platform.python_version(),
        versions=versions(),
        power_mode=read_power_mode(),
    )


def usable_cores() -> int:
    """Cores that this process may run on: its affinity mask, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    if not (quota.isdigit() and period.isdigit()):
        return cores
    return max(1, min(cores, int(quota) // int(period)))


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Installed versions of the packages that timing and numerics depend on; absent ones are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    text = _read("/proc/cpuinfo") or ""
    for field in ("model name", "Hardware", "Model"):
        match = re.search(rf"^{field}\s*:\s*(.+)$", text, re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def gpus() -> tuple[dict[str, str], ...]:
    """What the NVIDIA driver tells about its GPUs; empty without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    for reasons in _GPU_REASONS:  # one unknown field makes the tool refuse the whole question
        fields = _GPU_FIELDS + reasons
        command = [tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return parse_gpus(done.stdout, fields)
    return ()


def parse_gpus(text: str, fields: Sequence[str]) -> tuple[dict[str, str], ...]:
    """Rows of the driver's CSV by field; what it does not support on this GPU is left out."""
    rows = (line.split(", ") for line in text.splitlines() if line.strip())
    facts = (dict(zip(fields, (cell.strip() for cell in row), strict=False)) for row in rows)
    absent = ("[N/A]", "[Not Supported]", "N/A", "[Unknown Error]")
    return tuple({name: value for name, value in fact.items() if value not in absent} for fact in facts)


def _nominal_mhz() -> float | None:
    match = re.search(r"^cpu MHz\s*:\s*([0-9.]+)", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return float(match[1]) if match else None


def meminfo(path: str = "/proc/meminfo") -> dict[str, int]:
    """Bytes by field of Linux's memory table (MemAvailable: what is free without swapping), else empty."""
    rows = re.findall(r"^(\w+):\s+(\d+) kB", _read(path) or "", re.MULTILINE)
    return {name: int(kib) * 1024 for name, kib in rows}


def _read(path: str) -> str | None:
    return read_text(Path(path))
