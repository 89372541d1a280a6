"""Shards on a Ray: one of our own on this machine, or a cluster that this machine is a node of.

Ray is imported and started when the first shard runs. It repeats a shard whose worker died; results are kept
as they come. What it says goes to its own logs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.console import Progress
from topovlm.errors import MissingToolError, TopovlmError, explain
from topovlm.machine.environment import cpu_name
from topovlm.machine.host import usable_cores
from topovlm.text import one_line
from topovlm.workers import kept
from topovlm.workers.address import Address
from topovlm.workers.jobs import result_key
from topovlm.workers.node import Done, packages, perform

if TYPE_CHECKING:
    from topovlm.workers.jobs import Job, Result, Shard

_RETRIES = 3  # of a shard whose worker died
_ANSWERS_S = 5.0  # a port
_JOINS_S = 30.0  # a cluster
_LOOKS_S = 5.0  # between two looks at the nodes while no shard ends
_STORE_BYTES = 256 << 20  # of objects in shared memory: a few shards' pictures; more go to the disk
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
# Whoever reaches a Ray's ports, which are open to the network, runs code as its user: ours asks for a token.
_GUARD = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
_JOIN = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"


class RayPool:
    """Raises `MissingToolError` where Ray is not installed, or nobody answers at the address."""

    here = False

    def __init__(self, address: Address, say: Callable[[str], None] | None = None) -> None:
        self.address = address
        self._say, self._seen = say, {cpu_name()}
        self._folder: Path | None = None
        self._scratch: Path | None = None
        self._ray: Any = None
        self._places: dict[str, str] = {}  # the node that had a shard last
        self._ours = False  # a process has one Ray: a caller's own is used, and left as it was
        if importlib.util.find_spec("ray") is None:
            rule = "needs Ray, which is not installed"
            raise MissingToolError(explain("--workers", address.text, rule, "pip install 'topovlm[ray]'"))
        if address.host is not None:
            self._knock()

    def keep_in(self, folder: Path) -> None:
        self._folder = folder

    def run(self, job: Job, shards: Sequence[Shard], progress: Progress | None = None) -> list[Result]:
        """Raises what a shard raises, and `MissingToolError` for one whose workers die again and again."""
        total, done = sum(len(shard.samples) for shard in shards), 0
        results: dict[int, Result] = {}

        def ended(number: int, result: Result) -> None:
            nonlocal done
            results[number] = result
            done += len(shards[number].samples)
            if progress:
                progress(done, total)

        keys = [result_key(job, shard) for shard in shards]
        for number, key in enumerate(keys):
            known = None if self._folder is None else kept.read(self._folder, key)
            if known is not None:
                ended(number, known)
        waiting = [number for number in range(len(shards)) if number not in results]
        with contextlib.closing(self._performed(job, shards, waiting)) as performed:
            for number, made in performed:
                self._look_at(made)
                if self._folder is not None:
                    kept.write(self._folder, keys[number], made.result)
                ended(number, made.result)
        return [results[number] for number in range(len(shards))]

    def _performed(
        self, job: Job, shards: Sequence[Shard], waiting: list[int]
    ) -> Generator[tuple[int, Done]]:
        """Results as they come. So many shards are under way that no worker waits: pictures are large."""
        if not waiting:
            return
        ray = self._started()
        cpus = min(job.cpus, self._most("CPU"))
        if job.gpus:
            self._most("GPU")
        task = ray.remote(num_cpus=cpus, num_gpus=job.gpus, max_retries=_RETRIES)(_perform)
        shared, expected = ray.put(job), packages()
        slots = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
        under_way: dict[Any, int] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < 2 * slots:
                    number = waiting.pop(0)
                    shard = shards[number]
                    placed = task.options(scheduling_strategy=self._strategy(shard))
                    under_way[placed.remote(shared, shard.leaving(), shard.digest, expected)] = number
                ready, _ = ray.wait(list(under_way), timeout=_LOOKS_S)
                for one in ready:
                    number = under_way.pop(one)
                    made, self._places[shards[number].digest] = self._result(one)
                    yield number, made
                if not ready:
                    self._most("CPU")
        finally:
            for one in under_way:
                ray.cancel(one, force=True)

    def _strategy(self, shard: Shard) -> Any:
        """Where it was before, while that node lives: what was prepared for it is there. Else somewhere."""
        place = self._places.get(shard.digest)
        if place is None:
            return "SPREAD"
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(place, soft=True)

    def _result(self, one: Any) -> tuple[Done, str]:
        """What a worker has made, and the node that it is on."""
        exceptions = self._ray.exceptions
        try:
            found: tuple[Done, str] = self._ray.get(one)
            return found
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, TopovlmError):
                raise error.cause from None
            if "No module named 'topovlm'" in str(error):
                rule = "has workers without topovlm"
                remedy = f"pip install 'topovlm[ray]=={packages()['topovlm']}' on every node"
                raise MissingToolError(explain("--workers", self.address.text, rule, remedy)) from None
            raise
        except exceptions.RayError as error:
            rule = f"has lost a shard {1 + _RETRIES} times ({type(error).__name__})"
            remedy = "Run the same command again to resume; see that its nodes have enough memory"
            raise MissingToolError(explain("--workers", self.address.text, rule, remedy)) from error

    def _most(self, what: str) -> int:
        """Of CPUs or GPUs of a node that is alive: a shard that asks for more would wait for ever."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        most = max((int(node["Resources"].get(what, 0)) for node in nodes), default=0)
        if most < 1:
            rule = f"has no node with a {what} for workers"
            raise MissingToolError(explain("--workers", self.address.text, rule, "Start one: ray start"))
        return most

    def _look_at(self, made: Done) -> None:
        """Equal inputs give equal bits on processors of a kind; nobody should take that for more."""
        if made.cpu not in self._seen and self._say:
            self._say(f"note: {made.node} has another processor ({made.cpu}): last digits may differ")
        self._seen.add(made.cpu)

    # -- Ray itself -----------------------------------------------------------------------------------
    def _knock(self) -> None:
        """Ray waits for ever, and deaf to signals, for a port that is not its own: a child tries first."""
        place = f"{self.address.host}:{self.address.port}"
        remedy = "Give host:port of `ray start --head`, with this machine among the cluster's nodes"
        try:
            socket.create_connection((self.address.host or "", self.address.port), _ANSWERS_S).close()
        except OSError as error:
            rule = f"does not answer ({one_line(error.strerror or str(error))})"
            raise MissingToolError(explain("--workers", self.address.text, rule, remedy)) from None
        child = [sys.executable, "-c", _JOIN, place]
        try:
            done = subprocess.run(
                child,
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_JOINS_S,
                env={**os.environ, **_ENVIRONMENT},
            )
        except subprocess.TimeoutExpired:
            rule = f"gives no answer of a Ray cluster within {_JOINS_S:.0f} s"
            raise MissingToolError(explain("--workers", self.address.text, rule, remedy)) from None
        if done.returncode:
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
            rule = f"cannot be joined: {one_line(last)}"
            raise MissingToolError(explain("--workers", self.address.text, rule, remedy))

    def _started(self) -> Any:
        if self._ray is not None:
            return self._ray
        # Ray reads these once, when it is imported.
        for name, value in {**_ENVIRONMENT, **(_GUARD if self.address.host is None else {})}.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            self._ray = ray
            return ray
        where: dict[str, Any] = {"address": f"{self.address.host}:{self.address.port}"}
        if self.address.host is None:
            # A short name of our own: it holds sockets, whose paths are bounded, and goes at the end.
            self._scratch = Path(tempfile.mkdtemp(prefix="ray-", dir=_short_folder()))
            where = {"address": "local", "num_cpus": usable_cores(), "include_dashboard": False}
            where |= {"object_store_memory": _STORE_BYTES, "_temp_dir": str(self._scratch)}
        with _signals_kept():
            try:
                ray.init(**where, **_QUIET)
            except (RuntimeError, OSError, ValueError) as error:
                ray.shutdown()
                rule = f"cannot be used: {one_line(str(error))}"
                raise MissingToolError(explain("--workers", self.address.text, rule)) from error
        self._ray, self._ours = ray, True
        return ray

    def release(self) -> None:
        """End our part of the cluster, with what its workers hold."""
        if self._ours:
            with _signals_kept():
                self._ray.shutdown()
        self._ray, self._ours, self._places = None, False, {}
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def _perform(*given: Any) -> tuple[Done, str]:
    """On a worker."""
    import ray

    return perform(*given), ray.get_runtime_context().get_node_id()


def _short_folder() -> str:
    """Where sockets' paths stay below what the system takes (107 bytes, some 70 of which are Ray's)."""
    found = tempfile.gettempdir()
    return found if len(found) <= 16 or not Path("/tmp").is_dir() else "/tmp"


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; how this program ends is its own business."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
