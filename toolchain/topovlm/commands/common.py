"""What subcommands share: options as arguments, JSON on standard output, scratch runs, output checks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.config import BY_NAME, Config, Option, resolve

if TYPE_CHECKING:
    from rich.console import Console


# What is timed, and how long.
TIMED = ("images", "image_size", "prompt_tokens", "new_tokens", "seed", "threads", "measure_time")
_FILE_WIDTH = 160


class _Help(str):
    """A flag's help. The names that plug-ins add to are looked up when it is printed, not at every start."""

    names: Callable[[], Iterable[str]]

    def __mod__(self, values: object) -> str:
        return f"{super().__mod__(values)}: {', '.join(self.names())}"


def _help_of(option: Option) -> str:
    if option.names is None:
        return option.help
    text = _Help(option.help)
    text.names = option.names
    return text


def add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add options of the table; absent flags stay absent, so that file and defaults can speak."""
    for name in names:
        option = BY_NAME[name]
        flags = [option.short, option.flag] if option.short else [option.flag]
        parser.add_argument(
            *flags, dest=name, metavar=option.metavar, help=_help_of(option), default=argparse.SUPPRESS
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


def screen() -> Console:
    """Standard error for tables; a file or a pipe has no width, so that lines stay whole there."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=_FILE_WIDTH)
