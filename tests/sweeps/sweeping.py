"""One small sweep of a tiny model, as a command line."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from tests.pipeline import deploying
from topovlm import cli

TARGET = "jetson-orin-nano-8gb@7W"
BUDGETS = "70%,0.01ms,80%"  # the second cannot be met
OPTIONS = [*deploying.SMALL, "--repair", "off"]


def arguments(model: Path | str, out: Path, *more: str, target: str = TARGET) -> list[str]:
    """The command line."""
    words = ["sweep", "--target", target, "--model", str(model), *OPTIONS, "-o", str(out), "--json"]
    return [*words, *(() if "--max-latency" in more else ("--max-latency", BUDGETS)), *more]


def sweep(model: Path | str, out: Path, *more: str, target: str = TARGET) -> tuple[int, dict[str, Any]]:
    """Run it in this process; returns the exit code and the JSON document."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main(arguments(model, out, *more, target=target))
    return code, json.loads(printed.getvalue())


def hashes(found: dict[str, Any]) -> dict[str, str]:
    """Content hash by run directory."""
    return {row["run"]: row["content_hash"] for row in found["rows"]}
