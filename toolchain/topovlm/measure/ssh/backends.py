"""What can run exported graphs on a board: a row each in `travel/backends.json`, in the order of preference.

The table says which module travels, which Python package it needs there and from which version on, which
graphs it takes, whether the memory of its process is the model's, and which provider of ONNX Runtime does the
same: where that one is, ONNX Runtime with it is used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from topovlm import travel
from topovlm.measure.ssh.messages import Runtimes
from topovlm.records import Strict, read

TRAVEL = Path(travel.__file__).parent
COMMON = ("__init__.py", "failure.py", "prompts.py", "steps.py", "timer.py")  # what every backend needs there


class Backend(Strict, frozen=True, kw_only=True):
    """One row."""

    name: str
    package: str
    needs: str  # with the least major version: `package>=1`
    module: str
    files: tuple[str, ...]
    provider: str | None
    graphs: Literal["any", "plain"]
    memory: bool

    @property
    def least(self) -> int:
        """Least major version of the package."""
        return int(self.needs.partition(">=")[2])

    @property
    def native(self) -> bool:
        """Whether it builds engines of its own, for given shapes, without ONNX Runtime."""
        return self.provider is not None

    def there(self, runtimes: Runtimes) -> bool:
        """Whether a board has its package, new enough, and numpy."""
        major = re.match(r"[0-9]{1,6}(?=\.|$)", runtimes.versions.get(self.package, ""))
        return major is not None and int(major[0]) >= self.least and "numpy" in runtimes.versions


@functools.cache
def backends() -> tuple[Backend, ...]:
    """The table."""
    return read(TRAVEL / "backends.json", tuple[Backend, ...], field="backends")


def packages() -> tuple[str, ...]:
    """What to look for in a board's Python."""
    return ("numpy", *(backend.package for backend in backends()))


def choose(runtimes: Runtimes, providers: Sequence[str] | None) -> Backend:
    """The one that is asked for by its name, unless ONNX Runtime can do it; else the first that is there.

    Where none is there it is the first: what it lacks is then said of it.
    """
    rows = [backend for backend in backends() if backend.there(runtimes)]
    for backend in rows:
        if [backend.name] == list(providers or ()) and backend.provider not in runtimes.providers:
            return backend
    return (rows or backends())[0]


def takes_plain_graphs(backend: Backend, providers: Sequence[str]) -> bool:
    """Whether the fused operators are unknown to it, or to a provider (full name) that is asked for."""
    plain = [row for row in backends() if row.graphs == "plain"]
    return backend in plain or any(row.provider in providers for row in plain)
