"""A board's side of a measurement, step by step: its folder, a look at it, programs, a timing run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import strftime

from topovlm.artifacts import write_bytes
from topovlm.machine import look as looks
from topovlm.machine.environment import Environment, environment_of
from topovlm.machine.look import Look
from topovlm.machine.telemetry import Doubt, doubts
from topovlm.machine.tools import QUESTIONS
from topovlm.measure.settings import RunSettings, TimingRules
from topovlm.measure.ssh import checks, messages
from topovlm.measure.ssh.address import Address
from topovlm.measure.ssh.backends import COMMON, Backend, choose, packages
from topovlm.measure.ssh.connection import Connection, Limits
from topovlm.measure.ssh.failures import DeviceError
from topovlm.measure.ssh.messages import Failed, Hello, Runtimes, read_line
from topovlm.measure.ssh.parcel import Parcel, travellers
from topovlm.measure.ssh.rounds import PartialSweep, Rounds
from topovlm.measure.timing import Comparison
from topovlm.records import encode
from topovlm.units import format_bytes
from topovlm.version import __version__

_ROOM_BYTES = 32 << 20  # beside the graphs: the timer, prompts, what a runtime writes
Partial = Comparison | PartialSweep
_REMEDIES = {
    "memory": "Stop other programs on the board, or time a smaller model",
    "graph": "Export again, or update ONNX Runtime on the board",
    "provider": "Leave the provider to the board, or install the build of ONNX Runtime that has it",
    "runtime": "Install numpy and onnxruntime for that Python on the board",
}


@dataclass(frozen=True)
class Ready:
    """A board that was looked at; `backend` will run the graphs there, as `run` says."""

    look: Look
    runtimes: Runtimes
    backend: Backend
    run: RunSettings


@dataclass(frozen=True)
class Campaign:
    """A timing run's surroundings: the board before and after, and what speaks against the figures."""

    environment: Environment
    after: Look
    doubts: tuple[Doubt, ...]


class Remote:
    """The steps over one open connection. Every method raises `DeviceError`."""

    def __init__(
        self, address: Address, *, say: Callable[[str], None] | None = None, limits: Limits | None = None
    ) -> None:
        self.address, self.limits = address, limits or Limits()
        self.connection = Connection(address, self.limits)
        self._say = say or (lambda text: None)
        self._has_folder = False

    @property
    def hello(self) -> Hello:
        """The agent's first word."""
        assert self.connection.hello is not None
        return self.connection.hello

    def require(self, step: str, complaint: tuple[str, str] | None) -> None:
        """Raise what a check found."""
        if complaint is not None:
            raise DeviceError(self.address, step, *complaint)

    def folder(self, need_bytes: int = 0) -> None:
        """A private folder on the board with room for so much, and the timer in it."""
        if self._has_folder and need_bytes == 0:
            return
        room = max(need_bytes, _ROOM_BYTES // 32)
        self.connection.call("checking the disk", "open", messages.Done, need_bytes=room)
        self._has_folder = True
        for item in travellers(COMMON):
            self.connection.put(item.path, item.source, item.sha256, lambda done: None)

    def look(self) -> Look:
        """Look at the board, with the readers and the questions for this machine."""
        answer = self.connection.call(
            "looking at the board", "look", messages.Looked, patterns=looks.PATTERNS, questions=QUESTIONS
        )
        return looks.understand(answer.files, answer.answers)

    def runtimes(self) -> Runtimes:
        """What its Python has."""
        found: list[Runtimes] = []

        def read(text: str) -> None:
            line = read_line(text)
            if isinstance(line, Runtimes):
                found.append(line)

        self.timer("checking the runtime", ["probe", *packages()], self.limits.load_s, read)
        if not found:
            raise DeviceError(self.address, "checking the runtime", "its Python said nothing of itself")
        return found[0]

    def environment(self, look: Look, runtimes: Runtimes) -> Environment:
        """Facts of the board."""
        return environment_of(self.hello, look, {"topovlm": __version__, **runtimes.versions})

    def prepare(self, run: RunSettings) -> Ready:
        """Look at the board, choose what runs the graphs; raises `DeviceError` when there is nothing."""
        self.folder()
        look, runtimes = self.look(), self.runtimes()
        backend = choose(runtimes, run.providers)
        self.require("checking the runtime", checks.runtime(runtimes, backend, self.address))
        threads = run.threads or self.hello.usable_cores
        return Ready(look, runtimes, backend, RunSettings(run.variant, threads, run.providers))

    def campaign(
        self,
        ready: Ready,
        parcel: Parcel,
        rounds: Rounds,
        rules: TimingRules,
        partial: Callable[[Environment, list[str]], Partial],
    ) -> Campaign:
        """Check, send, time; `rounds` is filled. On a break `partial` says what was measured by then."""
        before = ready.look
        self.folder(parcel.size_bytes + _ROOM_BYTES)
        self.require("checking the memory", checks.memory(before, parcel))
        self._send(parcel)
        environment = self.environment(before, ready.runtimes)
        limit_s = self.limits.load_s + 5 * rules.time_limit_s
        try:
            self._say(f"timing on {before.device_model or environment.cpu}")
            self.timer("timing", ["time"], limit_s, rounds.line)
            if rules.memory and ready.backend.memory:
                for name in parcel.layers:
                    self.timer(f"memory of {name}", ["footprint", name], limit_s, rounds.line)
            after = self.look()
        except DeviceError as error:
            if rounds.count:
                kept = partial(environment, [str(error)])
                error.keep(kept, _keep(kept))
            raise
        return Campaign(environment, after, tuple(doubts(before.telemetry, after.telemetry)))

    def timer(
        self, step: str, arguments: list[str], limit_s: float, on_line: Callable[[str], str | None]
    ) -> None:
        """Run the timer; what it said before it failed is the caller's to read."""
        argv = ["{python}", "-m", "travel.timer", *arguments]
        failed: list[Failed] = []

        def read(text: str) -> str | None:
            line = read_line(text)
            if isinstance(line, Failed):
                failed.append(line)
            return on_line(text)

        done = self.connection.start(step, argv, limit_s, read)
        if done.status == 0:
            return
        if failed:
            raise DeviceError(self.address, step, failed[0].text, _REMEDIES.get(failed[0].reason, ""))
        last = done.errors[-1] if done.errors else f"exit status {done.status}"
        if done.status == -9:
            last = "it was killed; most likely the board ran out of memory"
        raise DeviceError(self.address, step, last, _REMEDIES["memory"] if done.status == -9 else "")

    def _send(self, parcel: Parcel) -> None:
        self._say(f"sending {format_bytes(parcel.size_bytes)} to {self.address.text}")
        for item in parcel.items:
            self.connection.put(item.path, item.source, item.sha256, self._sending(item.path, item.size))
        for path, source in parcel.copies:
            self.connection.call(f"sending {path}", "copy", messages.Done, source=source, path=path)

    def _sending(self, path: str, size: int) -> Callable[[int], None]:
        """Says every tenth of a large file."""
        said = 0

        def show(done: int) -> None:
            nonlocal said
            if size > _ROOM_BYTES and done * 10 // size > said:
                said = done * 10 // size
                self._say(f"sending {path}: {said * 10} %")

        return show


def _keep(partial: Partial) -> str:
    """Write rounds that a broken run left; says where they are."""
    from platformdirs import user_log_path

    file = user_log_path("topovlm", appauthor=False) / f"partial-{strftime('%Y%m%d-%H%M%S')}.json"
    try:
        write_bytes(file, encode(partial))
    except (ValueError, OSError):
        return f"{partial.rounds} rounds were measured; they could not be written to {file}"
    return f"{partial.rounds} rounds that were measured are kept in {file}"
