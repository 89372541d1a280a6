"""Time this machine, or a board over ssh, with the model itself: by decoder layers and prompt length.

The profile serves `topovlm plan --target local --profile FILE` without measuring again. Figures of a machine
that throttled or drifted are shown, and written to a file, but not filed in a folder of profiles.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.artifacts import check_output, check_output_file
from topovlm.commands.common import TIMED, add_options, config_of
from topovlm.console import Display, print_json, say, table
from topovlm.records import convert, plain, write
from topovlm.units import format_ms

if TYPE_CHECKING:
    from topovlm.predict.profile import Profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, ("model", *TIMED, "dtype", "device"))
    parser.add_argument("-o", "--output", dest="file", metavar="PATH", help="file, or folder to file it in")
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help="where ONNX Runtime runs: cpu or cuda (default: cpu here, a board's GPU where it has one), "
        "or torch: the checkpoint itself on torch, on this machine's GPU where it has one",
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.file:  # after minutes of work it is too late to refuse
        wanted = Path(args.file)
        (check_output if wanted.is_dir() else check_output_file)(wanted)

    from topovlm.pipeline.alone import profile_model

    measured = profile_model(config, Display(), args.provider)
    if args.json:
        print_json(plain(measured))
    else:
        _show(measured, config.device)
    if args.file:
        _file(measured, Path(args.file))
    return 0


def _file(measured: Profile, path: Path) -> None:
    """Into a folder of profiles under its own name, or into the file that was named."""
    from topovlm.predict.profile import save_profile

    if path.is_dir():
        say(f"wrote {save_profile(measured, path)}")
    else:
        write(path, measured)


def _show(measured: Profile, device: str) -> None:
    """The lines of the profile, the machine beside it, and what to doubt."""
    from topovlm.measure import microbench
    from topovlm.predict.target import LOCAL

    rows = [
        (name, format_ms(phase.intercept_ms), format_ms(phase.slope_ms_per_layer))
        for name, phase in measured.phases.items()
    ]
    where = "this machine" if device == LOCAL else f"{device} ({measured.target}, {measured.mode})"
    table(f"measured on {where}", ("phase", "fixed", "per decoder layer"), rows)
    if measured.machine is not None:
        rates = convert(measured.machine, microbench.MachineRates, field="machine", name=measured.target)
        for line in microbench.table(rates).splitlines():
            say(line)
    for warning in measured.warnings:
        say(f"  note: {warning}")
