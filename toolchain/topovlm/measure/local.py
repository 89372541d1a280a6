"""This machine as a device: measurements without a connection."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.errors import InputError, MissingToolError, explain
from topovlm.machine.environment import environment_of, versions
from topovlm.machine.host import this_host
from topovlm.machine.look import look_here
from topovlm.measure.protocol import Completed, Identity
from topovlm.measure.settings import Folders, ProfileRequest, RoundProgress, RunSettings, TimingRules
from topovlm.predict.target import LOCAL

if TYPE_CHECKING:
    from topovlm.measure.timing import Comparison
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.predict.profile import Profile


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
            raise MissingToolError(explain("--device", LOCAL, f"running {argv[0]}: {error}")) from None
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


def open_local(text: str = LOCAL, *, say: Callable[[str], None] | None = None) -> LocalDevice:
    """As `topovlm.measure.devices.OpenDevice`. Raises `InputError` for more than `local`."""
    if text != LOCAL:
        raise InputError(explain("--device", text, "is more than this machine needs", "Write local"))
    return LocalDevice()
