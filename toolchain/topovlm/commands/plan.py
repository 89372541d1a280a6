"""Predict vision, prefill, per-token time and memory for every number of layers, and choose.

Reads config.json alone, no weights; writes nothing. `--target local` times this machine first.
"""

from __future__ import annotations

import argparse
from typing import Any

from topovlm.commands.common import add_options, config_of, print_json
from topovlm.console import Display, say, table
from topovlm.units import format_bytes, format_ms

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


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    from topovlm.stages.dry_run import dry_run

    planned = dry_run(config, Display(), args.profile)
    if args.json:
        print_json(planned)
    else:
        show(planned)
    return 0


def show(planned: dict[str, Any]) -> None:
    """The plan for people: one row per number of layers, every figure predicted."""
    workload = planned["workload"]
    say(planned["summary"])
    for advice in planned["advice"]:
        say(f"  {advice}")
    tokens = f"{workload['visual_tokens']} visual + {workload['prompt_tokens']} text tokens"
    request = f"{workload['images']} picture(s), {tokens}, {workload['new_tokens']} new, {planned['dtype']}"
    title = f"predicted ({planned['source']}); {request}"
    rows = []
    for row in reversed(planned["rows"]):
        times = [_range(row[name], format_ms) for name in ("vision_ms", "prefill_ms", "token_ms", "ttft_ms")]
        mark = "<- kept" if row["keep_layers"] == planned["keep_layers"] else "" if row["fits"] else "no"
        rows.append((row["keep_layers"], *times, _range(row["memory_bytes"], format_bytes), mark))
    table(title, ("layers", "vision", "prefill", "per token", "first token", "memory", "fits"), rows)


def _range(interval: dict[str, float], show_one: Any) -> str:
    return f"{show_one(interval['value'])} (to {show_one(interval['high'])})"
