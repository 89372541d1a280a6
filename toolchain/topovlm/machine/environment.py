"""Facts of a machine that a measurement depends on: processor, memory, load, clocks, versions.

What a system does not tell is None, never a guess. Nothing here identifies a person or a host (no host name,
no user, no serial number).
"""

from __future__ import annotations

from importlib import metadata

from topovlm.machine.host import Host, this_host
from topovlm.machine.look import Look, look_here, read_cpu
from topovlm.machine.tools import Gpu
from topovlm.records import Part

_PACKAGES = ("topovlm", "onnxruntime", "onnxruntime-gpu", "numpy", "tokenizers", "pillow")
# What decides the numbers of a stage.
NUMERIC_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "numba",
    "scipy",
    "pillow",
    "tensorrt-rtx",
)


class Environment(Part, frozen=True, kw_only=True):
    """One look at a machine. `load_1min` is the count of running tasks, averaged over a minute."""

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
    device_model: str | None = None  # of the device tree, on boards that have one
    gpus: tuple[Gpu, ...]
    python: str
    versions: dict[str, str]
    power_mode: str | None = None  # by name, on boards that have modes

    @property
    def busy(self) -> str | None:
        """That other work takes the cores, in words."""
        if self.load_1min is None or self.load_1min <= 0.5 * self.cores:
            return None
        return f"the machine is busy: load {self.load_1min:.1f} on {self.cores} cores; timings are inflated"

    def warnings(self) -> list[str]:
        """What makes timings on this machine doubtful, in words."""
        found = [self.busy] if self.busy else []
        if self.governor not in (None, "performance", "schedutil"):
            found.append(f"the CPU governor is {self.governor!r}: clocks may be low or change during the run")
        return found


def environment_of(host: Host, look: Look, versions: dict[str, str]) -> Environment:
    """The facts of a machine from its system and a look at it."""
    telemetry = look.telemetry
    first = next(iter(telemetry.cpus), None)
    return Environment(
        system=host.system,
        machine=host.machine,
        cpu=look.cpu or host.machine,
        cores=host.cores,
        usable_cores=host.usable_cores,
        governor=first.governor if first else None,
        cpu_mhz=look.cpu_mhz,
        load_1min=host.load_1min,
        memory_total_bytes=_least(host.memory_total_bytes, look.memory_total_bytes),
        memory_available_bytes=_least(host.memory_free_bytes, look.memory_available_bytes),
        device_model=look.device_model,
        gpus=telemetry.gpus,
        python=host.python,
        versions=versions,
        power_mode=telemetry.power_mode,
    )


def _least(*values: int | None) -> int | None:
    """Of those that are known: a process may be bound tighter than its machine is."""
    return min((value for value in values if value is not None), default=None)


def describe_machine() -> Environment:
    """Look at the machine at hand now."""
    return environment_of(this_host(), look_here(), versions())


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
    return read_cpu() or this_host().machine
