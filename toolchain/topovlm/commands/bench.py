"""Time exported models against each other, in turns, on this machine or on a board over ssh.

Each FOLDER is an exported model or a run directory. The first is what the others are compared with.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.commands.common import TIMED, add_options, config_of
from topovlm.commands.run import exported_folder
from topovlm.console import Display, print_json, say, table
from topovlm.records import plain
from topovlm.units import format_bytes, format_ms

if TYPE_CHECKING:
    from topovlm.measure.timing import Comparison

_PHASES = {
    "vision": "vision",
    "prefill": "prefill",
    "token": "per token",
    "ttft": "first token",
    "end_to_end": "end to end",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="exported folder or run directory"
    )
    add_options(parser, (*TIMED, "device"))


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    from topovlm.measure.devices import open_device
    from topovlm.pipeline.measuring import time_folders
    from topovlm.predict.target import LOCAL

    folders = {str(folder): exported_folder(folder) for folder in args.folders}
    display = Display()
    with open_device(config.device, say=display.note) as device, display.stage("bench") as progress:
        timed = time_folders(config, folders, progress, device=device)
    if args.json:
        print_json(plain(timed))
        return 0
    where = "here" if config.device == LOCAL else f"on {config.device}"
    title = f"measured {where}, median of {timed.rounds} rounds"
    first = next(iter(folders))
    table(
        title,
        ("model", "layers", *_PHASES.values(), "ratio", "memory"),
        [_row(timed, first, name) for name in folders],
    )
    for warning in timed.warnings:
        say(f"  note: {warning}")
    return 0


def _row(timed: Comparison, first: str, name: str) -> tuple[str, ...]:
    """One model: medians by phase, first token against the first model's, and what it adds to memory."""
    engine = timed.engines[name]
    cells = [format_ms(engine.summary(p).median_ms) if p in engine.samples else "-" for p in _PHASES]
    ratio = timed.ratio(first, name)
    memory = format_bytes(engine.footprint.model_bytes) if engine.footprint else "-"
    share = f"{ratio.ratio:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"
    return (name, str(engine.layers), *cells, share, memory)
