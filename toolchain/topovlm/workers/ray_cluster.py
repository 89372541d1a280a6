"""A Ray of our own on this machine, or a cluster that this machine is a node of: joined, asked, left again.

Ray is imported and started when the first piece of work runs. It repeats what a worker that died was at. What
it says goes to its own logs.
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
from typing import Any

from topovlm.errors import MissingToolError, TopovlmError, explain
from topovlm.machine.host import usable_cores
from topovlm.text import one_line
from topovlm.workers.address import Address
from topovlm.workers.node import packages

_RETRIES = 3  # of what a worker that died was at
_ANSWERS_S = 5.0  # a port
_JOINS_S = 30.0  # a cluster
_LOOKS_S = 5.0  # between two looks at the nodes while nothing ends
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


class RayCluster:
    """Raises `MissingToolError` where Ray is not installed, or nobody answers at the address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._scratch: Path | None = None
        self._ray: Any = None
        self._ours = False  # a process has one Ray: a caller's own is used, and left as it was
        if importlib.util.find_spec("ray") is None:
            rule = "needs Ray, which is not installed"
            raise MissingToolError(explain("--workers", address.text, rule, "pip install 'topovlm[ray]'"))
        if address.host is not None:
            self._knock()

    def task(self, function: Callable[..., Any], cpus: int, gpus: int, **options: Any) -> tuple[Any, int]:
        """What Ray runs for the function, and how many CPUs of a node that takes: at most as many as it has.

        Raises `MissingToolError` where no node has a GPU and one is asked for.
        """
        ray, taken = self.started(), min(cpus, self.most("CPU"))
        if gpus:
            self.most("GPU")
        asked = {"num_cpus": taken, "num_gpus": gpus, "max_retries": _RETRIES, **options}
        return ray.remote(**asked)(function), taken

    def ended(
        self, submit: Callable[[int], Any], waiting: Sequence[int], cpus: int
    ) -> Generator[tuple[int, Any]]:
        """Numbers and references of what has ended, as it ends. `submit` gives a number's reference.

        `cpus`: what each takes. So many are under way that no worker waits, and no more: pictures are large.
        """
        ray, left = self.started(), list(waiting)
        slots = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
        under_way: dict[Any, int] = {}
        try:
            while left or under_way:
                while left and len(under_way) < 2 * slots:
                    number = left.pop(0)
                    under_way[submit(number)] = number
                ready, _ = ray.wait(list(under_way), timeout=_LOOKS_S)
                for one in ready:
                    yield under_way.pop(one), one
                if not ready:
                    self.most("CPU")
        finally:
            for one in under_way:
                ray.cancel(one, force=True)

    def result(self, one: Any) -> Any:
        """What a worker has made. Raises what it has raised; `MissingToolError` where it died each time."""
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(one)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, TopovlmError):
                raise error.cause from None
            if "No module named 'topovlm'" in str(error):
                rule = "has workers without topovlm"
                remedy = f"pip install 'topovlm[ray]=={packages()['topovlm']}' on every node"
                raise MissingToolError(explain("--workers", self.address.text, rule, remedy)) from None
            raise
        except exceptions.RayError as error:
            rule = f"has lost the same piece of work {1 + _RETRIES} times ({type(error).__name__})"
            remedy = "Run the same command again to resume; see that its nodes have enough memory"
            raise MissingToolError(explain("--workers", self.address.text, rule, remedy)) from error

    def most(self, what: str) -> int:
        """Of CPUs or GPUs of a node that is alive: what asks for more would wait for ever."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        most = max((int(node["Resources"].get(what, 0)) for node in nodes), default=0)
        if most < 1:
            rule = f"has no node with a {what} for workers"
            raise MissingToolError(explain("--workers", self.address.text, rule, "Start one: ray start"))
        return most

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

    def started(self) -> Any:
        """The module `ray`, connected."""
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
        self._ray, self._ours = None, False
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


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
