"""Where measurements run: this machine, or a board over ssh. One way to ask both.

    with open_device("ssh://jetson@192.168.55.1") as device:
        device.identify()["target"], device.time_export("out/onnx", workload, rules)

A board is reached by the OpenSSH client with the user's own configuration, agent and known_hosts. A small
program travels there for the length of the connection (Python >= 3.8; numpy and ONNX Runtime for timing);
nothing is installed, and what was sent is removed however the connection ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from topovlm.errors import MissingToolError, explain
from topovlm.machine.environment import describe_machine
from topovlm.machine.telemetry import read_telemetry
from topovlm.measure.ssh.address import FLAG, parse_address
from topovlm.measure.ssh.connection import DeviceError, Limits
from topovlm.measure.ssh.device import Completed, Folders, RoundProgress, SshDevice

if TYPE_CHECKING:
    from topovlm.measure.timing import Comparison, TimingRules
    from topovlm.measure.timing_workload import TimingWorkload

__all__ = ["Completed", "Device", "DeviceError", "Limits", "LocalDevice", "SshDevice", "open_device"]

LOCAL = "local"


class Device(AbstractContextManager["Device"], Protocol):
    """What both kinds of device do."""

    def identify(self) -> dict[str, Any]:
        """JSON-able facts: machine, cores, memory, board, power mode, telemetry, versions."""

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Completed:
        """Run a program there (in the device's scratch folder, if it is another machine)."""

    def compare(
        self,
        folders: Folders,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        *,
        variant: str = "auto",
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """Time exported folders (name -> folder) in turns; `runtime.timing.compare` for any device."""

    def time_export(
        self,
        folder: str | Path,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        progress: RoundProgress | None = None,
    ) -> dict[str, Any]:
        """One exported folder timed alone: the JSON-able form of `compare`, the engine named `model`."""

    def profile(self, folder: str | Path, **settings: Any) -> dict[str, Any]:
        """The device's profile (see `measure.profile`); settings are those of `probe.measure_local`."""


def open_device(
    text: str = LOCAL, *, say: Callable[[str], None] | None = None, limits: Limits | None = None
) -> Device:
    """`local` or `ssh://[user@]host[:port][?python=PATH]`; use the result as a context manager.

    `say` gets a line per step. Raises `InputError` for another text; entering raises `DeviceError`
    (a `MissingToolError`) with host, step, what happened and a remedy.
    """
    if text == LOCAL:
        return LocalDevice()
    return SshDevice(parse_address(text), say=say, limits=limits)


class LocalDevice:
    """This machine."""

    def __enter__(self) -> LocalDevice:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def identify(self) -> dict[str, Any]:
        environment = describe_machine()
        telemetry = read_telemetry(gpus=environment.gpus)
        return {**environment.to_dict(), "target": LOCAL, "telemetry": telemetry.to_dict()}

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Completed:
        try:
            done = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingToolError(explain(FLAG, LOCAL, f"running {argv[0]}: {error}")) from None
        return Completed(
            done.returncode, tuple(done.stdout.splitlines()), tuple(done.stderr.splitlines()[-40:])
        )

    def compare(
        self,
        folders: Folders,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        *,
        variant: str = "auto",
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        from topovlm.measure.timing import compare
        from topovlm.runtime.engine import Engine

        engines = {
            name: Engine(folder, variant=variant, threads=threads, providers=providers)
            for name, folder in folders.items()
        }
        return compare(engines, workload, rules, progress=progress)

    def time_export(
        self,
        folder: str | Path,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        progress: RoundProgress | None = None,
    ) -> dict[str, Any]:
        return self.compare({"model": folder}, workload, rules, progress=progress).to_dict()

    def profile(self, folder: str | Path, **settings: Any) -> dict[str, Any]:
        from topovlm.measure.probe import measure_local

        return measure_local(folder, **settings)
