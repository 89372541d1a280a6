"""A board behind one ssh connection: checks before anything large is sent, then timing, then nothing left.

A board is reached by the OpenSSH client with the user's own configuration, agent and known_hosts. A small
program travels there for the length of the connection (Python >= 3.8; numpy and ONNX Runtime for timing);
nothing is installed, and what was sent is removed however the connection ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from topovlm.machine.environment import Environment
from topovlm.measure import timing
from topovlm.measure.protocol import Completed, Identity
from topovlm.measure.settings import Folders, ProfileRequest, RoundProgress, RunSettings, TimingRules
from topovlm.measure.ssh import checks
from topovlm.measure.ssh.address import Address, parse_address
from topovlm.measure.ssh.connection import Connection, Limits
from topovlm.measure.ssh.messages import Case
from topovlm.measure.ssh.parcel import Load, pack
from topovlm.measure.ssh.profiling import measure_board
from topovlm.measure.ssh.remote import Remote
from topovlm.measure.ssh.rounds import Asked, Rounds
from topovlm.measure.timing import Comparison
from topovlm.measure.timing_workload import TimingWorkload
from topovlm.predict.profile import Profile


class SshDevice:
    """A board behind one ssh connection, which lasts as long as the `with` block."""

    def __init__(
        self, address: Address, *, say: Callable[[str], None] | None = None, limits: Limits | None = None
    ) -> None:
        self.remote = Remote(address, say=say, limits=limits)

    @property
    def connection(self) -> Connection:
        """The open connection."""
        return self.remote.connection

    def __enter__(self) -> SshDevice:
        self.connection.__enter__()
        try:
            found = checks.machine(self.remote.hello, self.remote.address)
            self.remote.require("checking the machine", found)
        except BaseException:
            self.connection.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.__exit__(*error)

    def identify(self) -> Identity:
        """As `Device.identify`."""
        self.remote.folder()
        look, runtimes = self.remote.look(), self.remote.runtimes()
        return Identity(
            target=checks.target_of(look),
            environment=self.remote.environment(look, runtimes),
            telemetry=look.telemetry.brief(),
            compatible=look.compatible,
            l4t=look.l4t,
            providers=runtimes.providers,
            trtexec=runtimes.trtexec,
            lacking=runtimes.lacking,
        )

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Completed:
        """As `Device.run`."""
        self.remote.folder()
        lines: list[str] = []
        done = self.connection.start(f"running {argv[0]}", list(argv), timeout_s, lines.append)
        return Completed(done.status, tuple(lines), done.errors)

    def time_export(
        self,
        folder: str | Path,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """As `Device.time_export`."""
        return self.compare({"model": folder}, workload, rules, progress=progress)

    def compare(
        self,
        folders: Folders,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        run: RunSettings | None = None,
        progress: RoundProgress | None = None,
    ) -> Comparison:
        """As `Device.compare`. A run that breaks off keeps its rounds: in the error, in a file."""
        rules = rules or TimingRules()
        ready = self.remote.prepare(run or RunSettings())
        prompts = workload.prompts
        longest = max(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        cases = [Case(name=name, engine=name, prompts=tuple(range(len(prompts)))) for name in folders]
        load = Load(prompts, cases, workload.new_tokens, footprint_prompt=longest)
        parcel = pack(folders, load, rules, ready.backend, ready.run)
        precision = rules.precision
        rounds = Rounds(
            Asked({name: name for name in folders}, workload.new_tokens),
            rules.min_rounds,
            lambda runs: all(timing.precise(found, precision) for found in runs.values()),
            progress,
            rules.max_rounds,
        )

        def result(environment: Environment, warnings: list[str]) -> Comparison:
            return rounds.comparison(
                folders, parcel, workload, rules=rules, environment=environment, warnings=warnings
            )

        watched = self.remote.campaign(ready, parcel, rounds, rules, result)
        return result(watched.environment, [doubt.text for doubt in watched.doubts])

    def profile(
        self, folder: str | Path, request: ProfileRequest, progress: RoundProgress | None = None
    ) -> Profile:
        """As `Device.profile`; `target` is the board's id where it is known."""
        return measure_board(self.remote, folder, request, progress)


def open_ssh(text: str, *, say: Callable[[str], None] | None = None) -> SshDevice:
    """As `topovlm.measure.devices.OpenDevice`: the OpenSSH client's user, keys and known_hosts count."""
    return SshDevice(parse_address(text), say=say)
