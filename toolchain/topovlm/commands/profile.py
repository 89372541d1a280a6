"""Time this machine with the model itself: every phase over decoder layers and prompt length.

The profile serves `topovlm plan --target local --profile FILE` without measuring again. Figures of a machine
that throttled or drifted are shown, and written to a file, but not filed in a folder of profiles.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from topovlm.artifacts import check_output, check_output_file, write_json
from topovlm.commands.common import add_options, config_of, print_json, scratch_run
from topovlm.console import Display, say, table
from topovlm.units import format_ms

_OPTIONS = ("model", "images", "prompt_tokens", "new_tokens", "seed", "threads", "measure_time")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    parser.add_argument("-o", "--output", dest="file", metavar="PATH", help="file, or folder to file it in")
    parser.add_argument(
        "--provider",
        default="cpu",
        metavar="NAME",
        help="where ONNX Runtime runs: cpu or cuda (default: cpu)",
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.file:  # after minutes of work it is too late to refuse
        wanted = Path(args.file)
        (check_output if wanted.is_dir() else check_output_file)(wanted)

    from topovlm.hardware import microbench
    from topovlm.hardware.probe import measure_local, save_profile
    from topovlm.runtime.sessions import provider_names
    from topovlm.stages import exporting
    from topovlm.stages.measuring import timed_tokens, timing_progress, timing_rules

    display, providers = Display(), provider_names([args.provider])
    with scratch_run(config, display) as context:
        exporting.export_dense(context)
        folder = context.run.root / exporting.BASELINE
        with display.stage("profile") as progress:
            rules = timing_rules(config)
            measured = measure_local(
                folder,
                images=config.images,
                prompt_tokens=config.prompt_tokens,
                new_tokens=timed_tokens(config),
                threads=config.threads,
                providers=providers,
                rules=rules,
                progress=timing_progress(rules, progress),
            )
        with display.stage("machine"):
            measured["machine"] = microbench.measure_machine(
                folder,
                tokens=(1, measured["workload"]["prefill_tokens"]),
                threads=config.threads,
                providers=providers,
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
