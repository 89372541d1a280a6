"""Score every decoder layer on calibration samples. A high score says: may go.

All scorers that cost next to nothing score beside the one of --scorer. --cloud, --token and --k say what the
layers' point clouds are made of and how many neighbours their graphs have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from topovlm.artifacts import check_output_file
from topovlm.commands.common import add_options, config_of
from topovlm.console import Display, print_json, table
from topovlm.records import plain, write

_OPTIONS = ("model", "task", "data", "scorer", "k", "cloud", "token", "samples", "seed", "memory", "workers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    parser.add_argument(
        "-o", "--output", dest="file", type=Path, metavar="FILE", help="write scores.json here"
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.file:
        check_output_file(args.file)

    from topovlm.pipeline.alone import score_model

    scores = score_model(config, Display())
    if args.file:
        write(args.file, scores)
    if args.json:
        print_json(plain(scores))
        return 0
    names = list(scores.scorers)
    columns = [scores.scorers[name].scores for name in names]
    rows = [(layer, *(f"{column[layer]:.3f}" for column in columns)) for layer in range(len(columns[0]))]
    cloud = f"{scores.cloud} cloud of {scores.token}"
    table(f"{scores.samples} samples, {cloud}, k = {scores.k}", ("layer", *names), rows)
    return 0
