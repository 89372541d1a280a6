"""The plan alone: nothing is written that stays, no weights are read for a board."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from topovlm.config import Config
from topovlm.console import Display, library_chatter
from topovlm.errors import InputError, explain
from topovlm.hardware.target import ResolvedTarget, load_target
from topovlm.rundir import RunDir
from topovlm.sources import config_sha256, find_model, model_config
from topovlm.stages import planning


def resolve_target(config: Config) -> ResolvedTarget:
    """The board of --target in its mode. Raises `InputError` when it is not given or not known."""
    if config.target is None:
        remedy = "Name a board (`topovlm targets` lists them), or `local` for this machine"
        raise InputError(explain("--target", None, "is missing", remedy))
    return load_target(config.target, config.mode)


def dry_run(config: Config, display: Display, profile: str | None = None) -> dict[str, Any]:
    """The plan as JSON-able data; `profile` is a measured profile's file.

    Raises `BudgetError` when no number of layers meets the budget.
    """
    target = resolve_target(config)
    measured = None
    if profile is not None:
        from topovlm.hardware.measured import check_model
        from topovlm.hardware.profiles import load_profile

        measured = load_profile(profile)
        check_model(measured, config_sha256(config.model), config.model)
    elif target.board.id == "local":
        return _plan_in_temporary_folder(config, target, display)
    planned = planning.compute_plan(config, target, model_config(config.model), measured)
    planning.refuse_infeasible(planned)
    return planned


def _plan_in_temporary_folder(config: Config, target: ResolvedTarget, display: Display) -> dict[str, Any]:
    """This machine has no data sheet: export the dense model, time it, and throw the files away."""
    from topovlm.stages import exporting
    from topovlm.stages.context import Context

    with (
        tempfile.TemporaryDirectory(prefix="topovlm-") as folder,
        RunDir(Path(folder), display).locked() as run,
        library_chatter(run.root / "logs" / "libraries.log"),
    ):
        context = Context(config, find_model(config.model), target, run)
        dense = exporting.export_dense(context)
        return planning.plan(context, planning.profile(context, dense)).value
