"""topovlm: make a vision-language model meet its board's latency and memory budget.

    import topovlm

    topovlm.plan(target="jetson-orin", max_latency="200ms").keep_layers

`topovlm.api` documents the functions; `topovlm.errors` and `topovlm.records` are what they raise and return.
Nothing is imported before it is used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from topovlm.version import __version__

# ONNX Runtime's wheels for Linux send names and hashes of graphs to their maker, from 1.29 on, unless this is
# set before the library is loaded. Set it to 0 to have it otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from topovlm import errors, records
    from topovlm.api import check, deploy, export, plan, prune, score, sweep

__all__ = ["__version__", "check", "deploy", "errors", "export", "plan", "prune", "records", "score", "sweep"]

_MODULES = ("errors", "records")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        from topovlm import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
