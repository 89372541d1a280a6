"""Predict vision, prefill, per-token time and memory for every number of layers, and choose.

Reads config.json alone, no weights; writes nothing. --model also takes names of well-known models, e.g.
qwen3-vl-2b. `--target local` times this machine first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.commands.common import add_options, config_of
from topovlm.config import Config
from topovlm.console import Display, print_json, screen
from topovlm.predict.observed import FIGURES
from topovlm.predict.runtimes import RUNTIMES
from topovlm.records import plain

if TYPE_CHECKING:
    from topovlm.pipeline.question import Choices

_OPTIONS = (
    "target",
    "mode",
    "model",
    "max_latency",
    "max_token_latency",
    "max_memory",
    "sparsity",
    "drop",
    "prompt_tokens",
    "new_tokens",
    "images",
    "frames",
    "image_size",
    "dtype",
    "seed",
    "threads",
    "measure_time",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    parser.add_argument(
        "--profile", metavar="FILE", help="plan with this measured profile (`topovlm profile`)"
    )
    parser.add_argument("--visual-tokens", metavar="N", help="visual tokens in all, instead of a size")
    parser.add_argument(
        "--runtime",
        metavar="NAME",
        help=f"runtime that the figures are for: {', '.join(RUNTIMES)} (default: edge-llm)",
    )
    parser.add_argument(
        "--observed",
        metavar="FIGURE=TIME[@layers=N]",
        action="append",
        default=[],
        help="a latency measured on the board with this request, e.g. ttft=231ms@layers=28: corrects the "
        f"figures and narrows them (of {', '.join(FIGURES)}; repeat it for several)",
    )
    parser.add_argument(
        "--confident", action="store_true", help="upper ends of the figures must fit the budget too"
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    from topovlm.pipeline.question import read_choices

    choices = read_choices(
        config,
        args.visual_tokens,
        confident=args.confident,
        runtime=args.runtime,
        observed=args.observed,
    )
    return show(config, args.json, Path(args.profile) if args.profile else None, choices)


def show(config: Config, as_json: bool, profile: Path | None = None, choices: Choices | None = None) -> int:
    """The plan as JSON, or for people on standard error. Raises `BudgetError` when it is infeasible."""
    from topovlm.pipeline.dry_run import planned
    from topovlm.pipeline.question import Choices, refuse_infeasible

    plan, record, formats = planned(config, Display(), profile, choices or Choices())
    if as_json:
        refuse_infeasible(record)
        print_json(plain(record))
        return 0
    from topovlm.planner.view import render_dtypes, render_plan

    render_plan(plan, screen())
    if formats:
        render_dtypes(dict(formats), screen())
    refuse_infeasible(record)
    return 0
