"""Where measurements run: this machine, or a board over ssh. One way to ask both.

    with open_device("ssh://jetson@192.168.55.1") as device:
        device.identify().target, device.time_export("out/onnx", workload, rules)

A board is reached by the OpenSSH client with the user's own configuration, agent and known_hosts. A small
program travels there for the length of the connection (Python >= 3.8; numpy and ONNX Runtime for timing);
nothing is installed, and what was sent is removed however the connection ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.errors import MissingToolError, explain
from topovlm.machine.environment import environment_of, versions
from topovlm.machine.host import this_host
from topovlm.machine.look import look_here
from topovlm.measure.protocol import Completed, Device, Identity
from topovlm.measure.settings import Folders, ProfileRequest, RoundProgress, RunSettings, TimingRules
from topovlm.measure.ssh.address import FLAG, parse_address
from topovlm.measure.ssh.connection import Limits
from topovlm.measure.ssh.device import SshDevice
from topovlm.measure.ssh.failures import DeviceError
from topovlm.predict.target import LOCAL

if TYPE_CHECKING:
    from topovlm.measure.timing import Comparison
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.predict.profile import Profile

__all__ = [
    "LOCAL",
    "Completed",
    "Device",
    "DeviceError",
    "Identity",
    "Limits",
    "LocalDevice",
    "SshDevice",
    "open_device",
]


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

    def identify(self) -> Identity:
        """As `Device.identify`."""
        look = look_here()
        return Identity(
            target=LOCAL,
            environment=environment_of(this_host(), look, versions()),
            telemetry=look.telemetry.brief(),
            compatible=look.compatible,
            l4t=look.l4t,
        )

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Completed:
        """As `Device.run`."""
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
        run: RunSettings | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """As `Device.compare`."""
        from topovlm.measure.timing import compare
        from topovlm.runtime.engine import Engine

        run = run or RunSettings()
        engines = {
            name: Engine(folder, variant=run.variant, threads=run.threads, providers=run.providers)
            for name, folder in folders.items()
        }
        return compare(engines, workload, rules, progress=progress)

    def time_export(
        self,
        folder: str | Path,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """As `Device.time_export`."""
        return self.compare({"model": folder}, workload, rules, progress=progress)

    def profile(
        self, folder: str | Path, request: ProfileRequest, progress: RoundProgress | None = None
    ) -> Profile:
        """As `Device.profile`."""
        from topovlm.measure.probe import measure_local

        return measure_local(folder, request, progress=progress)
