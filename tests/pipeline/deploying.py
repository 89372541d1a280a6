"""One tiny deployment, made once per session and copied by the tests that change it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

from topovlm import cli

# A board whose predicted latency the budget binds: layers go, and the plan is the same on every machine.
BUDGET = ["--target", "jetson-orin-nano-8gb@7W", "--max-latency", "70%"]
# As `topovlm.deploy` takes them, and as a command line.
SMALL_OPTIONS: dict[str, Any] = {
    "samples": 16,
    "judge_samples": 32,
    "eval_samples": 12,
    "measure_time": "0.2s",
    "threads": 1,
}
SMALL = [
    word for name, value in SMALL_OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value))
]


def build_model(folder: Path, seed: int = 0) -> Path:
    """An 8-layer random LLaVA that never says its image token (as a trained one would not)."""
    from safetensors.torch import load_file, save_file

    from tests import tiny

    tiny.build(folder, layers=8, seed=seed)
    file = folder / "model.safetensors"
    weights = load_file(file)
    (name,) = [name for name in weights if name.endswith("embed_tokens.weight")]
    weights[name][tiny.SPECIALS.index(tiny.IMAGE)] = 0
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def arguments(model: Path, out: Path, *more: str, budget: list[str] = BUDGET) -> list[str]:
    """The command line of the deployment."""
    return ["deploy", *budget, "--model", str(model), *SMALL, "-o", str(out), "--json", *more]


def deploy(model: Path, out: Path, *more: str, budget: list[str] = BUDGET) -> tuple[int, dict[str, Any]]:
    """Run it in this process; returns the exit code and the JSON document."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main(arguments(model, out, *more, budget=budget))
    return code, json.loads(printed.getvalue())


def copy_without(source: Path, target: Path, *stages: str) -> Path:
    """A copy of a run directory in which some stages have not run yet."""
    shutil.copytree(source, target)
    for stage in stages:
        (target / ".topovlm" / "stages" / f"{stage}.json").unlink()
    return target


def stages_run(out: Path) -> list[str]:
    """The stages that the last run did not reuse."""
    stages = json.loads((out / "run.json").read_text())["stages"]
    return [name for name, facts in stages.items() if not facts["cached"]]
