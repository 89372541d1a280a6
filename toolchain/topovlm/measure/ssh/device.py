"""A board behind one ssh connection: checks before anything large is sent, then timing, then nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import strftime
from typing import TYPE_CHECKING, Any

from topovlm import __version__
from topovlm.artifacts import sha256_file, write_json
from topovlm.machine import look as facts
from topovlm.machine.environment import Environment
from topovlm.machine.telemetry import Doubt, doubts
from topovlm.measure.ssh import checks
from topovlm.measure.ssh.address import Address
from topovlm.measure.ssh.checks import Ready
from topovlm.measure.ssh.connection import DeviceError, Limits, Session
from topovlm.measure.ssh.parcel import ONNXRUNTIME
from topovlm.travel import traveller
from topovlm.units import format_bytes

if TYPE_CHECKING:
    from topovlm.machine.look import Look
    from topovlm.measure.ssh.parcel import Parcel
    from topovlm.measure.ssh.rounds import Rounds
    from topovlm.measure.timing import Comparison, TimingRules
    from topovlm.measure.timing_workload import TimingWorkload

Folders = Mapping[str, str | Path]
RoundProgress = Callable[[int, float], None]  # (rounds done, seconds spent)
_ROOM_BYTES = 32 << 20  # beside the graphs: the timer, prompts, what a runtime writes


@dataclass(frozen=True)
class Completed:
    """A program that ran on a device: exit status, lines of standard output, last lines of standard error."""

    status: int
    lines: tuple[str, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Campaign:
    """A timing run's surroundings: the board before and after, and what speaks against the figures."""

    ready: Ready
    environment: Environment
    after: Look
    doubts: list[Doubt]


class SshDevice:
    """A board behind one ssh connection, which lasts as long as the `with` block."""

    def __init__(
        self, address: Address, *, say: Callable[[str], None] | None = None, limits: Limits | None = None
    ) -> None:
        self.address, self.limits = address, limits or Limits()
        self._say = say or (lambda text: None)
        self._session = Session(address, self.limits)
        self._has_folder = False

    def __enter__(self) -> SshDevice:
        self._session.__enter__()
        try:
            self._require("checking the machine", checks.machine(self._session.hello, self.address))
        except BaseException:
            self._session.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._session.__exit__(*error)

    def identify(self) -> dict[str, Any]:
        self._folder(0)
        look, runtimes = self._look(), self._runtimes()
        return {
            **self._environment(look, runtimes).to_dict(),
            **look.to_dict(),
            "target": checks.target_of(look),
            "providers": runtimes["providers"],
            "trtexec": runtimes["trtexec"],
            "lacking": runtimes["lacking"],
        }

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Completed:
        self._folder(0)
        lines: list[str] = []
        done = self._session.start(f"running {argv[0]}", list(argv), timeout_s, lines.append)
        return Completed(done.status, tuple(lines), done.errors)

    def time_export(
        self,
        folder: str | Path,
        workload: TimingWorkload,
        rules: TimingRules | None = None,
        progress: RoundProgress | None = None,
    ) -> dict[str, Any]:
        return self.compare({"model": folder}, workload, rules, progress=progress).to_dict()

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
        """As `Device.compare`. A run that breaks off keeps its rounds: in the error, in a file."""
        from topovlm.measure import timing
        from topovlm.measure.ssh.parcel import Case, pack
        from topovlm.measure.ssh.rounds import Rounds

        rules = rules or timing.TimingRules()
        ready = self.prepare(providers)
        longest = max(range(len(workload.prompts)), key=lambda i: len(workload.prompts[i].input_ids))
        parcel = pack(
            folders,
            workload.prompts,
            [Case(name, name, tuple(range(len(workload.prompts)))) for name in folders],
            rules,
            new_tokens=workload.new_tokens,
            backend=ready.backend,
            footprint_prompt=longest,
            variant=variant,
            threads=threads,
            providers=providers,
        )
        precision = rules.precision
        rounds = Rounds(
            rules.min_rounds, lambda runs: all(timing._precise(g, precision) for g in runs.values()), progress
        )

        def result(environment: Environment, warnings: list[str]) -> Comparison:
            return rounds.comparison(
                folders, parcel, workload, rules=rules, environment=environment, warnings=warnings
            )

        watched = self.campaign(ready, parcel, rounds, rules, lambda *facts: result(*facts).to_dict())
        return result(watched.environment, [doubt.text for doubt in watched.doubts])

    def profile(self, folder: str | Path, **settings: Any) -> dict[str, Any]:
        """As `Device.profile`."""
        from topovlm.measure.ssh.profiling import measure_board

        return measure_board(self, folder, **settings)

    def prepare(self, providers: Sequence[str] | None) -> Ready:
        """Look at the board, choose the runtime; raises `DeviceError` when there is none."""
        self._folder(0)
        look, runtimes = self._look(), self._runtimes()
        backend = checks.backend(runtimes, providers)
        if backend == ONNXRUNTIME:
            self._require("checking the runtime", checks.runtime(runtimes, self.address))
        return Ready(look, runtimes, backend)

    def campaign(
        self,
        ready: Ready,
        parcel: Parcel,
        rounds: Rounds,
        rules: TimingRules,
        partial: Callable[[Environment, list[str]], dict[str, Any]],
    ) -> Campaign:
        """Check, send, time; `rounds` is filled. On a break `partial` says what was measured by then."""
        before, runtimes = ready.look, ready.runtimes
        self._folder(parcel.size_bytes + _ROOM_BYTES)
        self._require("checking the memory", checks.memory(before, parcel))
        self._send(parcel)
        environment = self._environment(before, runtimes)
        limit_s = self.limits.load_s + 5 * rules.time_limit_s
        try:
            self._say(f"timing on {before.model or before.cpu}")
            self._timer("timing", ["time"], limit_s, rounds.line)
            if rules.memory and ready.backend == ONNXRUNTIME:  # a GPU's memory is not this process's
                for name in parcel.layers:
                    self._timer(f"memory of {name}", ["footprint", name], limit_s, rounds.footprint(name))
            after = self._look()
        except DeviceError as error:
            if rounds.count:
                kept = partial(environment, [str(error)])
                error.keep(kept, _keep(kept))
            raise
        return Campaign(ready, environment, after, doubts(before.telemetry, after.telemetry))

    # -- steps --------------------------------------------------------------------------------------
    def _require(self, step: str, complaint: tuple[str, str] | None) -> None:
        if complaint is not None:
            raise DeviceError(self.address, step, *complaint)

    def _folder(self, need_bytes: int) -> None:
        """A private folder on the board with room for so much, and the timer in it."""
        if self._has_folder and need_bytes == 0:
            return
        self._session.call("checking the disk", "open", need_bytes=max(need_bytes, _ROOM_BYTES // 32))
        self._has_folder = True
        for name in ("board_engine.py", "board_timer.py"):
            source = traveller(name)
            self._session.put(source.name, source, sha256_file(source), lambda done: None)

    def _look(self) -> Look:
        commands = [list(command) for command in facts.COMMANDS]
        answer = self._session.call(
            "looking at the board", "look", patterns=facts.PATTERNS, commands=commands
        )
        return facts.understand(answer["files"], answer["outputs"])

    def _runtimes(self) -> dict[str, Any]:
        lines: list[str] = []
        self._timer("checking the runtime", ["probe"], self.limits.load_s, lines.append)
        for line in lines:
            if line.startswith('{"kind": "runtimes"'):
                found: dict[str, Any] = json.loads(line)
                return found
        raise DeviceError(self.address, "checking the runtime", f"an answer that is none: {lines[-1:]}")

    def _send(self, parcel: Parcel) -> None:
        self._say(f"sending {format_bytes(parcel.size_bytes)} to {self.address.text}")
        for item in parcel.items:
            self._session.put(item.path, item.source, item.sha256, self._sending(item.path, item.size))
        for path, source in parcel.copies:
            self._session.call(f"sending {path}", "copy", source=source, path=path)

    def _sending(self, path: str, size: int) -> Callable[[int], None]:
        """Says every tenth of a large file."""
        said = 0

        def show(done: int) -> None:
            nonlocal said
            if size > _ROOM_BYTES and done * 10 // size > said:
                said = done * 10 // size
                self._say(f"sending {path}: {said * 10} %")

        return show

    def _timer(
        self, step: str, arguments: list[str], limit_s: float, on_line: Callable[[str], str | None]
    ) -> None:
        """Run the timer; what it printed before it failed is the caller's to read."""
        argv = ["{python}", "board_timer.py", *arguments]
        failed: list[dict[str, Any]] = []

        def read(line: str) -> str | None:
            if line.startswith('{"kind": "failure"'):
                failed.append(json.loads(line))
            return on_line(line)

        done = self._session.start(step, argv, limit_s, read)
        if done.status == 0:
            return
        if failed:
            raise DeviceError(self.address, step, failed[0]["text"], _REMEDIES.get(failed[0]["reason"], ""))
        last = done.errors[-1] if done.errors else f"exit status {done.status}"
        if done.status == -9:
            last = "it was killed; most likely the board ran out of memory"
        raise DeviceError(self.address, step, last, _REMEDIES["memory"] if done.status == -9 else "")

    def _environment(self, look: Look, runtimes: dict[str, Any]) -> Environment:
        hello, clocks = self._session.hello, look.telemetry.cpus
        return Environment(
            system=hello["system"],
            machine=hello["machine"],
            cpu=look.cpu,
            cores=hello["cores"],
            usable_cores=hello["usable_cores"],
            governor=clocks[0].governor if clocks else None,
            cpu_mhz=clocks[0].current_mhz if clocks else None,
            load_1min=hello["load_1min"],
            memory_total_bytes=look.memory_total_bytes,
            memory_available_bytes=look.memory_available_bytes,
            board=look.model,
            gpus=look.gpus,
            python=hello["python"],
            versions={"topovlm": __version__, **runtimes["versions"]},
            power_mode=look.telemetry.power_mode,
        )


_REMEDIES = {
    "memory": "Stop other programs on the board, or time a smaller model",
    "graph": "Export again, or update ONNX Runtime on the board",
    "provider": "Leave the provider to the board, or install the build of ONNX Runtime that has it",
    "runtime": "Install numpy and onnxruntime for that Python on the board",
}


def _keep(partial: dict[str, Any]) -> str:
    """Write rounds that a broken run left; says where they are."""
    from platformdirs import user_log_path

    file = user_log_path("topovlm", appauthor=False) / f"partial-{strftime('%Y%m%d-%H%M%S')}.json"
    try:
        write_json(file, partial)
    except (ValueError, OSError):
        return f"{partial['rounds']} rounds were measured; they could not be written to {file}"
    return f"{partial['rounds']} rounds that were measured are kept in {file}"
