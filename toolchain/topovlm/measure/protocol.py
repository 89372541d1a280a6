"""What both kinds of device do: this machine, and a board over ssh."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from topovlm.machine.environment import Environment
from topovlm.machine.telemetry import Telemetry
from topovlm.measure.settings import Folders, ProfileRequest, RoundProgress, RunSettings, TimingRules
from topovlm.records import Part

if TYPE_CHECKING:
    from topovlm.measure.timing import Comparison
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.predict.profile import Profile


class Identity(Part, frozen=True, kw_only=True):
    """What a device says it is. `target`: its id, `local` for this machine, None for an unknown board.

    `providers`: of its ONNX Runtime; `lacking`: packages that its Python cannot import, and why.
    """

    target: str | None
    environment: Environment
    telemetry: Telemetry
    compatible: tuple[str, ...] = ()
    l4t: str | None = None
    providers: tuple[str, ...] = ()
    trtexec: str | None = None
    lacking: dict[str, str] = {}  # noqa: RUF012 (msgspec copies it)


@dataclass(frozen=True)
class Completed:
    """A program that ran on a device: exit status, lines of standard output, last lines of standard error."""

    status: int
    lines: tuple[str, ...]
    errors: tuple[str, ...]


class Device(AbstractContextManager["Device"], Protocol):
    """Use it as a context manager."""

    def identify(self) -> Identity:
        """Look at the device now."""

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Completed:
        """Run a program there (in the device's scratch folder, if it is another machine)."""

    def compare(
        self,
        folders: Folders,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        run: RunSettings | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """Time exported folders (name -> folder) in turns; `measure.timing.compare` for any device."""

    def time_export(
        self,
        folder: str | Path,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """One exported folder timed alone, the engine named `model`."""

    def profile(
        self, folder: str | Path, request: ProfileRequest, progress: RoundProgress | None = None
    ) -> Profile:
        """The device's profile from a dense export; as `measure.probe.measure_local`."""
