"""Remove decoder layers from a checkpoint, tensor by tensor, and verify what was written.

The result is a stock Hugging Face checkpoint; nothing is written unless it loads and generates the same with
and without a cache, with the logits of the dense model whose layers are bypassed.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import add_options, config_of, new_folder, print_json
from topovlm.console import Display, say
from topovlm.errors import InputError, explain

_OPTIONS = ("model", "drop", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if config.drop is None:
        raise InputError(explain("--drop", None, "is missing", "Name layers, e.g. --drop 12,13,20-24"))
    folder = new_folder(config.output)

    from topovlm.artifacts import move_into_place, staged_folder
    from topovlm.models.surgery import prune_checkpoint
    from topovlm.models.verify import verify_checkpoint
    from topovlm.sources import find_model

    source = find_model(config.model)
    with Display().stage("prune and verify") as progress, staged_folder(folder) as work:
        surgery = prune_checkpoint(source.folder, work / "model", config.drop, progress=progress)
        verified = verify_checkpoint(work / "model", dense=source.folder, dropped=config.drop)
        for path in list((work / "model").iterdir()):
            move_into_place(path, work / path.name)
        (work / "model").rmdir()
    facts = {"surgery": {**surgery.to_dict(), "folder": str(folder)}, "verified": verified.to_dict()}
    if args.json:
        print_json(facts)
    else:
        kept = ", ".join(map(str, surgery.kept))
        say(f"  {len(surgery.kept)} of {surgery.source_layers} layers kept: {kept}")
        say(f"  verified and written to {folder}")
    return 0
