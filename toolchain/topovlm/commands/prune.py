"""Remove decoder layers from a checkpoint, tensor by tensor, and verify what was written.

The result is a stock Hugging Face checkpoint; nothing is written unless it loads and generates the same with
and without a cache, with the logits of the dense model whose layers are bypassed. --no-verify compares the
written files with the source's instead: for a checkpoint that is larger than this machine's memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topovlm.commands.common import add_options, config_of, new_folder, print_json
from topovlm.console import Display, say
from topovlm.errors import InputError, explain

_OPTIONS = ("model", "drop", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="compare files only, load no model: for checkpoints larger than memory",
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if config.drop is None:
        raise InputError(explain("--drop", None, "is missing", "Name layers, e.g. --drop 12,13,20-24"))
    folder = new_folder(config.output)

    from topovlm.artifacts import move_into_place, staged_folder
    from topovlm.checkpoint.surgery import prune_checkpoint
    from topovlm.pipeline.sources import find_model

    source = find_model(config.model)
    if not args.no_verify:
        _check_memory(source.folder)
    what = "prune" if args.no_verify else "prune and verify"
    with Display().stage(what) as progress, staged_folder(folder) as work:
        surgery = prune_checkpoint(source.folder, work / "model", config.drop, progress=progress)
        facts = _verify(work / "model", source.folder, config.drop, files_only=args.no_verify)
        for path in list((work / "model").iterdir()):
            move_into_place(path, work / path.name)
        (work / "model").rmdir()
    if args.json:
        print_json({"surgery": {**surgery.to_dict(), "folder": str(folder)}, **facts})
    kept = ", ".join(map(str, surgery.kept))
    say(f"  {len(surgery.kept)} of {surgery.source_layers} layers kept: {kept}")
    if args.no_verify:
        say(f"  written to {folder}")
        say("  NOT VERIFIED: nobody asked the model; only its files were compared with the source's")
    else:
        say(f"  verified and written to {folder}")
    return 0


def _check_memory(folder: Path) -> None:
    """Refuse before the work what cannot be verified after it."""
    from topovlm.checkpoint.files import open_checkpoint
    from topovlm.checkpoint.loading import TooLargeError, refuse_too_large

    try:
        refuse_too_large(open_checkpoint(folder))
    except TooLargeError as error:
        raise InputError(f"{error}, or prune unverified with --no-verify") from None


def _verify(folder: Path, source: Path, drop: Sequence[int], *, files_only: bool) -> dict[str, Any]:
    from topovlm.checkpoint.verify import verify_checkpoint, verify_files

    if files_only:
        return {"verified": None, "files_compared": verify_files(folder, source, drop)}
    return {"verified": verify_checkpoint(folder, dense=source, dropped=drop).to_dict()}
