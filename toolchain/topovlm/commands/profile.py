"""Time this machine with the model itself: every phase over decoder layers and prompt length.

The profile serves `topovlm plan --target local --profile FILE` without measuring again. Figures of a machine
that throttled or drifted are shown, and written to a file, but not filed in a folder of profiles.
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
    parser.add_argument("-o", "--output", dest="file", metavar="PATH", help="file, or folder to file it in")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    config = config_of(args)

    from topovlm.hardware import microbench
    from topovlm.hardware.profiles import save_profile
    from topovlm.stages import exporting, planning

    display = Display()
    with scratch_run(config, display) as context:
        planning.profile(context, exporting.export_dense(context))
        measured = read_json(context.run.root / "profile.json")
        with display.stage("machine"):
            measured["machine"] = microbench.measure_machine(
                context.run.root / exporting.BASELINE,
                tokens=(1, measured["workload"]["prefill_tokens"]),
                threads=config.threads,
            )
    if args.json:
        print_json(measured)
    else:
        rows = [
            (name, format_ms(phase["intercept_ms"]), format_ms(phase["slope_ms_per_layer"]))
            for name, phase in measured["phases"].items()
        ]
        table("measured on this machine", ("phase", "fixed", "per decoder layer"), rows)
        say(microbench.table(measured["machine"]))
        for warning in measured["warnings"]:
            say(f"  note: {warning}")
    if args.file:
        path = Path(args.file)
        if path.is_dir():
            say(f"wrote {save_profile(measured, path)}")
        else:
            write_json(path, measured)
    return 0
