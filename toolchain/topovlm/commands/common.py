"""What subcommands share: options as arguments, and the configuration that they give."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from topovlm.config import BY_NAME, Config, Option, resolve

# What is timed, and how long.
TIMED = ("images", "frames", "image_size", "prompt_tokens", "new_tokens", "seed", "threads", "measure_time")


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


def given_options(args: argparse.Namespace) -> dict[str, str]:
    """The options that were typed, by name."""
    return {name: value for name, value in vars(args).items() if name in BY_NAME}


def config_of(args: argparse.Namespace) -> Config:
    """The resolved configuration. Raises `InputError` naming the flag or the key of the file."""
    return resolve(given_options(args), args.config)
