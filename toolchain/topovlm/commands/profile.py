"""Time this machine with the model itself: every phase as a line in decoder layers.

The profile serves `topovlm plan --target local --profile FILE` without measuring again.
"""

from __future__ import annotations

import argparse

from topovlm.artifacts import read_json, write_json
from topovlm.commands.common import add_options, config_of, print_json, scratch_run
from topovlm.console import Display, say, table
from topovlm.units import format_ms

_OPTIONS = ("model", "images", "prompt_tokens", "new_tokens", "seed", "threads", "measure_time")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    parser.add_argument("-o", "--output", dest="file", metavar="FILE", help="write the profile here")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    config = config_of(args)

    from topovlm.stages import exporting, planning

    with scratch_run(config, Display()) as context:
        planning.profile(context, exporting.export_dense(context))
        measured = read_json(context.run.root / "profile.json")
    if args.file:
        write_json(Path(args.file), measured)
    if args.json:
        print_json(measured)
    else:
        rows = [
            (name, format_ms(phase["intercept_ms"]), format_ms(phase["slope_ms_per_layer"]))
            for name, phase in measured["phases"].items()
        ]
        table("measured on this machine", ("phase", "fixed", "per decoder layer"), rows)
        for warning in measured["warnings"]:
            say(f"  note: {warning}")
    return 0
