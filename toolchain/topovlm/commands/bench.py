"""Time exported models against each other, in turns, on this machine or on a board over ssh.

Each FOLDER is an exported model or a run directory. The first is what the others are compared with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from topovlm.commands.common import add_device, add_options, config_of, print_json
from topovlm.commands.run import exported_folder
from topovlm.console import Display, say, table
from topovlm.units import format_bytes, format_ms

_OPTIONS = ("images", "prompt_tokens", "new_tokens", "seed", "threads", "measure_time")
_PHASES = ("vision", "prefill", "token", "ttft", "end_to_end")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="exported folder or run directory"
    )
    add_options(parser, _OPTIONS)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    from topovlm.measure.device import LOCAL, open_device
    from topovlm.pipeline.measuring import time_folders
    from topovlm.stats.robust import paired_ratio, summarise

    names = [str(folder) for folder in args.folders]
    folders = {name: exported_folder(folder) for name, folder in zip(names, args.folders, strict=True)}
    display = Display()
    with open_device(args.board, say=display.note) as device, display.stage("bench") as progress:
        timings = time_folders(config, folders, progress, device=device)
    if args.json:
        print_json(timings)
        return 0
    rows = []
    first = timings["engines"][names[0]]["samples"]
    for name in dict.fromkeys(names):
        engine = timings["engines"][name]
        samples = engine["samples"]
        cells = [format_ms(summarise(samples[p]).median_ms) if p in samples else "-" for p in _PHASES]
        ratio = paired_ratio(first["ttft"], samples["ttft"])
        footprint = engine["footprint"]
        memory = format_bytes(footprint["model_bytes"]) if footprint else "-"
        rows.append(
            (name, engine["layers"], *cells, f"{ratio.ratio:.3f} ({ratio.low:.3f}-{ratio.high:.3f})", memory)
        )
    columns = (
        "model",
        "layers",
        "vision",
        "prefill",
        "per token",
        "first token",
        "end to end",
        "ratio",
        "memory",
    )
    where = "here" if args.board == LOCAL else f"on {args.board}"
    table(f"measured {where}, median of {timings['rounds']} rounds", columns, rows)
    for warning in timings["warnings"]:
        say(f"  note: {warning}")
    return 0
