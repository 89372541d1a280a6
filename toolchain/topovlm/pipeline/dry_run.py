"""The plan alone: nothing is written that stays, no weights are read for a board."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.config import REFERENCE_MODEL, Config
from topovlm.console import Display, library_chatter
from topovlm.errors import InputError, explain
from topovlm.pipeline import planning
from topovlm.pipeline.planning import Choices
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import config_sha256, find_model, model_facts
from topovlm.pipeline.target import resolve_target
from topovlm.predict.target import LOCAL, ResolvedTarget

if TYPE_CHECKING:
    from topovlm.families.known_models import KnownModel
    from topovlm.planner.solve import Plan


def dry_run(
    config: Config, display: Display, profile: str | None = None, choices: Choices | None = None
) -> Plan:
    """The plan, feasible or not; `profile` is a measured profile's file.

    `--model` may also be the name of a well-known model, whose sizes are shipped: then nothing is read.
    """
    choices = choices or Choices()
    if config.device != LOCAL:
        rule = "is measured, and a dry run measures no board"
        remedy = "Use `topovlm profile --device ... -o FILE`, then `topovlm plan --profile FILE`"
        raise InputError(explain("--device", config.device, rule, remedy))
    target = resolve_target(config)
    planning.dtype_for(config, target)
    known = _known_model(config.model)
    measured = None
    if profile is not None:
        from topovlm.measure.profile import load_profile
        from topovlm.predict.measured import check_model

        measured = load_profile(profile)
        if known is None:
            check_model(measured, config_sha256(config.model), config.model)
    elif target.board.id == "local":
        if known is not None:
            rule = "only its sizes are known here, and this machine is measured"
            raise InputError(explain("--model", config.model, rule, "Give the model's folder, or a board"))
        measured = _measured_here(config, target, display)
    model = model_facts(config.model) if known is None else known.facts
    return planning.build_plan(config, target, model, measured, choices=choices)


def compare_formats(config: Config, choices: Choices) -> dict[str, Plan]:
    """The budget in every weight format of a board, when none is named; empty for this machine."""
    target = resolve_target(config)
    if config.dtype != "auto" or target.board.id == LOCAL:
        return {}
    known = _known_model(config.model)
    model = model_facts(config.model) if known is None else known.facts
    return planning.plan_formats(config, target, model, choices=choices)


def _known_model(name: str) -> KnownModel | None:
    """A model whose sizes are shipped, unless a folder of that name is there. Raises `InputError`: a typo."""
    from topovlm.families.known_models import find_known_model, known_model

    if name == REFERENCE_MODEL or Path(name).expanduser().exists():
        return None
    could_be_elsewhere = "/" in name or "\\" in name  # a path, or a hub id
    return find_known_model(name) if could_be_elsewhere else known_model(name)


def _measured_here(config: Config, target: ResolvedTarget, display: Display) -> dict[str, Any]:
    """This machine has no data sheet: export the dense model, time it, and throw the files away."""
    from topovlm.pipeline import exporting
    from topovlm.pipeline.context import Context

    with (
        tempfile.TemporaryDirectory(prefix="topovlm-") as folder,
        RunDir(Path(folder), display).locked() as run,
        library_chatter(run.root / "logs" / "libraries.log"),
    ):
        context = Context(config, find_model(config.model), target, run)
        return planning.profile(context, exporting.export_dense(context)).value
