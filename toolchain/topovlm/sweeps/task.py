"""One combination, deployed here or on a worker that is the driver's twin: a row, however it ends."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.artifacts import digest_of, write_text
from topovlm.console import Display
from topovlm.errors import InputError, explain
from topovlm.failures import INTERNAL, failure
from topovlm.pipeline.context import Context
from topovlm.pipeline.deploy import deploy
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import find_model
from topovlm.pipeline.target import resolve_target
from topovlm.report.store import read_report
from topovlm.sweeps.record import Row, deployed_row, failed_row

if TYPE_CHECKING:
    from topovlm.config import Config
    from topovlm.sweeps.combinations import Combination

# What a worker must find as it is where the sweep was started, by the option that names it.
_INPUTS = {"--model": ("model",), "--target": ("target",), "--data": ("choosing", "held_out")}


@dataclass(frozen=True)
class DeployTask:
    """A deployment on a worker. `folder`: where relative paths begin; `threads`: torch's; `inputs`: what
    `inputs_of` gave where the sweep was started; `log`: for the traceback of an internal error."""

    combination: Combination
    lenders: tuple[Path, ...]
    folder: Path
    threads: int
    cpus: int
    gpus: int
    inputs: Mapping[str, str]
    log: Path

    def run(self) -> Row:
        """Raises `InputError` where folder, model, target or data are not those of the machine that asks."""
        try:
            os.chdir(self.folder)
        except OSError:
            rule, remedy = "is where the sweep was started, and is not there", "Share it under the same path"
            raise InputError(explain("folder", str(self.folder), rule, remedy)) from None
        config = self.combination.config
        found = inputs_of(config)
        for option, digest in self.inputs.items():
            if found[option] != digest:
                rule = "is another one here than where the sweep was started"
                remedy, value = "Share it, or copy it to the same path", getattr(config, option[2:])
                raise InputError(explain(option, value and str(value), rule, remedy))
        return deployed(self.combination, Display(quiet=True), self.lenders, self.threads, self.log)


def inputs_of(config: Config, options: Iterable[str] = tuple(_INPUTS)) -> dict[str, str]:
    """Digests of what a configuration for a known board leads to, by option. Raises `InputError`."""
    run = RunDir(config.output, Display(quiet=True))
    context = Context(config, find_model(config.model), resolve_target(config), run)
    return {option: digest_of([context.fact(fact) for fact in _INPUTS[option]]) for option in options}


def deployed(
    combination: Combination, display: Display, lenders: Sequence[Path], threads: int, log: Path
) -> Row:
    """Deploy, whatever comes of it. `threads`: what torch begins with, as in a process of its own."""
    import torch

    torch.set_num_threads(threads)  # a small model that was loaded before has left it with one
    began, config = time.perf_counter(), combination.config
    try:
        argv = ("topovlm", "deploy", *config.words())
        outcome = deploy(config, argv, display, lenders=lenders)
        report = read_report(config.output) if outcome.report else None
    except BrokenPipeError:  # nobody listens any more: that ends the sweep
        raise
    except Exception as error:  # whatever ends one deployment, the others go on: its row says what it was
        found = failure(error)
        if found.kind == INTERNAL:
            write_text(log, "".join(traceback.format_exception(error)))
        return failed_row(combination, found, time.perf_counter() - began)
    return deployed_row(combination, outcome, report, time.perf_counter() - began)
