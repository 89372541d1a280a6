"""One look at a machine, from its files and its tools: the one at hand, or a board that sent their texts.

A board only sends the texts of files (and of two small tools). They are laid out as a tree, to which the
readers apply that also look at the machine at hand: so an old Python on the board costs nothing.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from topovlm.machine import tools
from topovlm.machine.telemetry import ROOT, Telemetry, read_telemetry, read_text
from topovlm.machine.tools import Answers
from topovlm.travel.build_engines import parse_l4t
from topovlm.travel.limits import parse_meminfo

_CPU = "/sys/devices/system/cpu/cpu[0-9]*"
PATTERNS = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/device-tree/model",
    "/proc/device-tree/compatible",
    "/etc/nv_tegra_release",
    "/etc/nvpmodel.conf",
    "/var/lib/nvpmodel/status",
    f"{_CPU}/cpufreq/scaling_*",
    f"{_CPU}/cpufreq/cpuinfo_max_freq",
    f"{_CPU}/thermal_throttle/*_throttle_count",
    *(f"/sys/class/devfreq/*/{name}" for name in ("cur_freq", "min_freq", "max_freq", "governor")),
    "/sys/class/thermal/thermal_zone*/type",
    "/sys/class/thermal/thermal_zone*/temp",
    "/sys/class/thermal/cooling_device*/type",
    "/sys/class/thermal/cooling_device*/cur_state",
    *(
        f"/sys/class/hwmon/hwmon*/{name}"
        for name in ("name", "in*", "curr*_input", "power*", "oc*_event_cnt")
    ),
    "/sys/bus/i2c/drivers/ina3221*/*/iio:device*/rail_name_*",
    "/sys/bus/i2c/drivers/ina3221*/*/iio:device*/in_power*_input",
    "/sys/class/power_supply/*/type",
    "/sys/class/power_supply/*/online",
)


@dataclass(frozen=True)
class Look:
    """What a machine is and how it is; what it does not tell is None."""

    device_model: str | None  # of the device tree, on boards that have one
    compatible: tuple[str, ...]
    l4t: str | None
    cpu: str | None
    cpu_mhz: float | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    telemetry: Telemetry


def look_here() -> Look:
    """Look at the machine at hand."""
    return read_look(ROOT, tools.ask_here())


def read_look(root: Path, answers: Answers) -> Look:
    """Look at the machine whose files lie below `root` and whose tools said `answers`."""
    telemetry = read_telemetry(root, answers)
    memory = meminfo(root / "proc/meminfo")
    clock = next((clock.current_mhz for clock in telemetry.cpus), None)
    return Look(
        device_model=read_text(root / "proc/device-tree/model"),
        compatible=tuple(filter(None, (read_text(root / "proc/device-tree/compatible") or "").split("\0"))),
        l4t=parse_l4t(read_text(root / "etc/nv_tegra_release") or ""),
        cpu=read_cpu(root),
        cpu_mhz=clock or _nominal_mhz(root),
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        telemetry=telemetry,
    )


def understand(files: Mapping[str, str], answers: Answers) -> Look:
    """A look from a board's files (absolute path -> text) and what its tools said.

    Files that nobody reads here are left out.
    """
    asked = {name: text for name, text in files.items() if any(map(PurePosixPath(name).match, PATTERNS))}
    with tempfile.TemporaryDirectory(prefix="topovlm-look-") as folder:
        lay_out(asked, Path(folder))
        return read_look(Path(folder), answers)


def lay_out(files: Mapping[str, str], root: Path) -> None:
    """Write the texts below `root`; a path that would lead elsewhere is left out."""
    for name, text in files.items():
        parts = PurePosixPath(name).parts
        if parts[:1] == ("/",) and ".." not in parts and len(parts) > 1:
            path = root.joinpath(*parts[1:])
            with contextlib.suppress(OSError, ValueError):  # a name that this file system cannot hold
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", errors="replace")


def meminfo(path: str | Path = "/proc/meminfo") -> dict[str, int]:
    """Bytes by field of Linux's memory table (MemAvailable: what is free without swapping), else empty."""
    return parse_meminfo(read_text(Path(path)) or "")


def read_cpu(root: Path = ROOT) -> str | None:
    """The processor's name where the system tells one."""
    text = read_text(root / "proc/cpuinfo") or ""
    for field in ("model name", "Hardware", "Model", "CPU part"):
        match = re.search(rf"^{field}\s*:\s*(.+)$", text, re.MULTILINE)
        if match:
            return match[1].strip() if field != "CPU part" else f"CPU part {match[1].strip()}"
    return None


def _nominal_mhz(root: Path) -> float | None:
    match = re.search(
        r"^cpu MHz\s*:\s*([0-9]{1,6}(?:\.[0-9]{1,9})?)", read_text(root / "proc/cpuinfo") or "", re.MULTILINE
    )
    return float(match[1]) if match else None
