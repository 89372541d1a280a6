"""Where measurements run: the kinds of device there are, by the scheme of their address. One way to ask all.

    with open_device("ssh://jetson@192.168.55.1") as device:
        device.identify().target, device.time_export("out/onnx", workload, rules)

Ours are below, others come by the entry point group `topovlm.devices`: a callable that follows `OpenDevice`
and gives an object that follows `topovlm.measure.protocol.Device`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from topovlm.errors import InputError, explain
from topovlm.measure.protocol import Device
from topovlm.predict.target import LOCAL
from topovlm.registry import Registry

FLAG = "--device"


class OpenDevice(Protocol):
    """An address as the user gives it -> the device, connected when it is entered.

    Raises `InputError` for an address that is none. `say` gets a line per step.
    """

    def __call__(self, text: str, *, say: Callable[[str], None] | None = None) -> Device: ...


def _local() -> OpenDevice:
    from topovlm.measure.local import open_local

    return open_local


def _ssh() -> OpenDevice:
    from topovlm.measure.ssh.device import open_ssh

    return open_ssh


DEVICES: Registry[OpenDevice] = Registry("topovlm.devices", {LOCAL: _local, "ssh": _ssh}, needs=("__call__",))


def kind_of(text: str) -> str:
    """`local` or `ssh://...` -> the name in the registry."""
    return text.partition("://")[0]


def open_device(text: str = LOCAL, *, say: Callable[[str], None] | None = None) -> Device:
    """`local` or `ssh://[user@]host[:port][?python=PATH]`; use the result as a context manager.

    `say` gets a line per step. Raises `InputError` for another text; entering raises `DeviceError`
    (a `MissingToolError`) with host, step, what happened and a remedy.
    """
    kind = kind_of(text)
    if kind not in DEVICES.names():
        known = ", ".join(name if name == LOCAL else f"{name}://..." for name in DEVICES.names())
        raise InputError(explain(FLAG, text, "is neither local nor the address of a board", f"Write {known}"))
    return DEVICES[kind](text, say=say)
