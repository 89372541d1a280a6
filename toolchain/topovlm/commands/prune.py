"""Remove decoder layers from a checkpoint, tensor by tensor, and verify what was written.

The result is a stock Hugging Face checkpoint; nothing is written unless it loads and generates the same with
and without a cache, with the logits of the dense model whose layers are bypassed. A checkpoint that is larger
than memory is asked layer by layer. --no-verify compares the written files with the source's instead.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import add_options, config_of
from topovlm.console import Display, print_json, say
from topovlm.records import plain

_OPTIONS = ("model", "drop", "output", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="compare files only, load no model: quick, for checkpoints larger than memory",
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    from topovlm.pipeline.alone import prune_model

    record = prune_model(config, Display(), verify=not args.no_verify)
    surgery = record.surgery
    if args.json:
        print_json(plain(record))
    kept = ", ".join(map(str, surgery.kept))
    say(f"  {len(surgery.kept)} of {surgery.source_layers} layers kept: {kept}")
    if record.verified is None:
        say(f"  written to {config.output}")
        say("  NOT VERIFIED: nobody asked the model; only its files were compared with the source's")
    else:
        say(f"  verified and written to {config.output}")
    return 0
