"""What must hold of a board before anything large is sent there: (what is wrong, remedy), or None."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from topovlm.machine.look import Look
from topovlm.measure.ssh.address import Address
from topovlm.measure.ssh.parcel import ONNXRUNTIME, TENSORRT, Parcel
from topovlm.predict.target import recognise
from topovlm.travel.build_engines import LEAST_TENSORRT
from topovlm.units import format_bytes

Complaint = tuple[str, str] | None
_MACHINES = ("x86_64", "aarch64")
_LEAST_PYTHON = (3, 8)
_MEMORY_COPIES = 1.2  # of the graphs' bytes, while they load


@dataclass(frozen=True)
class Ready:
    """A board that was looked at; `backend`: what will run the graphs there."""

    look: Look
    runtimes: dict[str, Any]
    backend: str


def target_of(look: Look) -> str | None:
    """Id of the known target that the board is; None when it is none of them."""
    return recognise(look.compatible, [gpu["name"] for gpu in look.gpus if "name" in gpu])


def machine(hello: dict[str, Any], address: Address) -> Complaint:
    """Python, system and architecture; `hello` is the agent's first word."""
    version = tuple(int(part) for part in hello["python"].split(".")[:2])
    if version < _LEAST_PYTHON:
        rule = f"its {address.python} is Python {hello['python']}; 3.8 or later is needed"
        return rule, f"Name another one: {address.text}?python=/path/to/bin/python"
    if not hello["system"].startswith("Linux"):
        rule = f"it runs {hello['system']}; a board is measured under Linux"
        return rule, "Measure that machine with --device local, on itself"
    if hello["machine"] not in _MACHINES or hello["bits"] != 64 or hello["byteorder"] != "little":
        rule = (
            f"wrong architecture: {hello['machine']}, {hello['bits']}-bit Python; no runtime for these "
            f"graphs exists for it (64-bit {' or '.join(_MACHINES)} is needed)"
        )
        return rule, "Install a 64-bit system, or use another board"
    return None


def backend(runtimes: dict[str, Any], providers: Sequence[str] | None) -> str:
    """ONNX Runtime where it is; TensorRT by itself where that alone is there, or was asked for."""
    versions = runtimes["versions"]
    major = versions.get("tensorrt", "0").split(".")[0]
    native = "numpy" in versions and major.isdigit() and int(major) >= LEAST_TENSORRT
    has_provider = "TensorrtExecutionProvider" in runtimes["providers"]
    asked = list(providers or ()) == [TENSORRT] and not has_provider
    return TENSORRT if native and (asked or "onnxruntime" not in versions) else ONNXRUNTIME


def runtime(runtimes: dict[str, Any], address: Address) -> Complaint:
    """numpy and ONNX Runtime in the board's Python."""
    lacking = [name for name in ("numpy", "onnxruntime") if name in runtimes["lacking"]]
    if not lacking:
        return None
    why = "; ".join(runtimes["lacking"][name] for name in lacking)
    rule = f"missing runtime: {runtimes['python']} has no {' and no '.join(lacking)} ({why})"
    return rule, (
        f"On the board: {runtimes['python']} -m pip install {' '.join(lacking)} (a Jetson's GPU needs "
        f"NVIDIA's own onnxruntime-gpu wheel, or TensorRT {LEAST_TENSORRT} for this Python), or name a "
        f"Python that has them: {address.text}?python=/path/to/bin/python"
    )


def memory(look: Look, parcel: Parcel) -> Complaint:
    """MemAvailable against the graphs."""
    free, need = look.memory_available_bytes, round(_MEMORY_COPIES * parcel.loaded_bytes)
    if free is None or need <= free:
        return None
    rule = f"the graphs need about {format_bytes(need)} of memory, {format_bytes(free)} are available"
    return rule, "Stop other programs there (the desktop takes about 1 GiB), or time fewer models at once"
