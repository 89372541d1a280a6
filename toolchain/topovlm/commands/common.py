"""What subcommands share: the option table as arguments, and JSON on standard output."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topovlm.config import BY_NAME, Config, resolve


def add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add options of the table; absent flags stay absent, so that file and defaults can speak."""
    for name in names:
        option = BY_NAME[name]
        flags = [option.short, option.flag] if option.short else [option.flag]
        parser.add_argument(
            *flags, dest=name, metavar=option.metavar, help=option.help, default=argparse.SUPPRESS
        )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="topovlm.toml with the same keys as the flags"
    )


def config_of(args: argparse.Namespace) -> Config:
    """The resolved configuration. Raises `InputError` naming the flag or the key of the file."""
    flags = {name: value for name, value in vars(args).items() if name in BY_NAME}
    return resolve(flags, args.config)


def print_json(document: Any) -> None:
    """The one JSON document of `--json`."""
    print(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))
