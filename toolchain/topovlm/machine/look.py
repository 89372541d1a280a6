"""What a board is and how it is: read there as plain files, understood here.

The board only sends the texts of files (and of two small tools). They are laid out as a tree, to which the
readers apply that also look at the machine at hand: so an old Python on the board costs nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from topovlm.machine.telemetry import Telemetry, read_telemetry

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
_GPU_FIELDS = ("name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm", "temperature.gpu")
COMMANDS = (
    ["nvpmodel", "-q"],
    ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"],
)


@dataclass(frozen=True)
class Look:
    """One look at a board."""

    model: str | None
    compatible: tuple[str, ...]
    l4t: str | None
    cpu: str
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    gpus: tuple[dict[str, str], ...]
    telemetry: Telemetry

    def to_dict(self) -> dict[str, Any]:
        """JSON-able facts; nothing here names a person or a host."""
        return {
            "board": self.model,
            "compatible": list(self.compatible),
            "l4t": self.l4t,
            "cpu": self.cpu,
            "memory_total_bytes": self.memory_total_bytes,
            "memory_available_bytes": self.memory_available_bytes,
            "telemetry": self.telemetry.to_dict(),
        }


def understand(files: Mapping[str, str], outputs: Mapping[str, str]) -> Look:
    """Facts from the board's files (absolute path -> text) and tools (name -> what it printed)."""
    gpus = read_gpus(outputs.get("nvidia-smi", ""))
    compatible = tuple(part for part in files.get("/proc/device-tree/compatible", "").split("\0") if part)
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB", files.get("/proc/meminfo", ""), re.MULTILINE))
    with tempfile.TemporaryDirectory(prefix="topovlm-look-") as folder:
        lay_out(files, Path(folder))
        telemetry = read_telemetry(Path(folder), gpus)
    mode = read_mode(outputs.get("nvpmodel", ""))
    return Look(
        model=files.get("/proc/device-tree/model", "").strip("\0 \n") or None,
        compatible=compatible,
        l4t=read_l4t(files.get("/etc/nv_tegra_release", "")),
        cpu=read_cpu(files.get("/proc/cpuinfo", "")),
        memory_total_bytes=_bytes(memory, "MemTotal"),
        memory_available_bytes=_bytes(memory, "MemAvailable"),
        gpus=gpus,
        telemetry=replace(telemetry, power_mode=mode) if mode else telemetry,
    )


def lay_out(files: Mapping[str, str], root: Path) -> None:
    """Write the texts below `root`; a path that would lead elsewhere is left out."""
    for name, text in files.items():
        parts = PurePosixPath(name).parts
        if parts[:1] == ("/",) and ".." not in parts and len(parts) > 1:
            path = root.joinpath(*parts[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def read_mode(text: str) -> str | None:
    """The power mode by name, from `nvpmodel -q`."""
    match = re.search(r"Power Mode\s*:\s*(?:MODE_)?(\S+)", text)
    return match[1] if match else None


def read_l4t(text: str) -> str | None:
    """`36.4.3` from /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, ...`."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else None


def read_cpu(text: str) -> str:
    """The processor's name where the system tells one."""
    for field in ("model name", "Hardware", "Model", "CPU part"):
        match = re.search(rf"^{field}\s*:\s*(.+)$", text, re.MULTILINE)
        if match:
            return match[1].strip() if field != "CPU part" else f"CPU part {match[1].strip()}"
    return "unknown"


def read_gpus(text: str) -> tuple[dict[str, str], ...]:
    """Rows of nvidia-smi; a Jetson's says [N/A] to most."""
    rows = (line.split(", ") for line in text.splitlines() if line.strip())
    return tuple(dict(zip(_GPU_FIELDS, row, strict=False)) for row in rows)


def _bytes(memory: Mapping[str, str], field: str) -> int | None:
    return int(memory[field]) * 1024 if field in memory else None
