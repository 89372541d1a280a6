"""Predict vision, prefill, per-token time and memory for every number of layers, and choose.

Reads config.json alone, no weights; writes nothing. --model also takes names of well-known models, e.g.
qwen3-vl-2b. `--target local` times this machine first.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from topovlm.commands.common import add_options, config_of, print_json, screen
from topovlm.config import integer
from topovlm.console import Display
from topovlm.errors import InputError, explain
from topovlm.records import plain

if TYPE_CHECKING:
    from topovlm.planner.solve import Plan


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
    parser.add_argument("--image-size", metavar="HxW", help="size of each picture in px, e.g. 448x640")
    parser.add_argument("--visual-tokens", metavar="N", help="visual tokens in all, instead of a size")
    parser.add_argument(
        "--confident", action="store_true", help="upper ends of the figures must fit the budget too"
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    height, width = parse_size(args.image_size, "--image-size") if args.image_size else (None, None)
    tokens = integer(0)(args.visual_tokens, "--visual-tokens") if args.visual_tokens else None
    if tokens is not None and height is not None:
        raise InputError("--image-size and --visual-tokens both say how large the pictures are. Give one")

    from topovlm.pipeline.dry_run import compare_formats, dry_run
    from topovlm.pipeline.planning import Choices

    choices = Choices(height, width, tokens, args.confident)
    plan = dry_run(config, Display(), args.profile, choices)
    show(plan, args.json, {} if args.profile else compare_formats(config, choices))
    return 0


def parse_size(text: str, field: str) -> tuple[int, int]:
    """`448x640` -> (height, width) in px."""
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise InputError(explain(field, text, "must be height x width in pixels", "For example 448x640"))
    return int(height), int(width)


def show(plan: Plan, as_json: bool, formats: Mapping[str, Plan] | None = None) -> None:
    """The plan as JSON, or for people on standard error; `formats`: the same budget by weight format.

    Raises `BudgetError` when it is infeasible.
    """
    from msgspec.structs import replace

    from topovlm.pipeline.planning import refuse_infeasible
    from topovlm.planner.formats import format_plans

    planned = replace(plan.record(), formats=format_plans(formats or {}))
    if as_json:
        refuse_infeasible(planned)
        print_json(plain(planned))
        return
    from topovlm.planner.view import render_dtypes, render_plan

    render_plan(plan, screen())
    if formats:
        render_dtypes(dict(formats), screen())
    refuse_infeasible(planned)
