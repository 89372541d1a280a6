"""What subcommands share: options as arguments, JSON on standard output, scratch runs, output checks."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.artifacts import check_output
from topovlm.config import BY_NAME, Config, Option, resolve
from topovlm.console import Display, library_chatter
from topovlm.errors import InputError, explain

if TYPE_CHECKING:
    from rich.console import Console

    from topovlm.pipeline.context import Context


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


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device: where to measure, of the commands that can measure elsewhere."""
    parser.add_argument(
        "--device",
        dest="board",
        default="local",
        metavar="WHERE",
        help="where to measure: local, or ssh://user@host[:port] (default: local)",
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


def new_folder(path: Path) -> Path:
    """An output folder that is not there yet, or empty: nothing that somebody keeps there is replaced."""
    check_output(path)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(explain("--output", str(path), "is not empty", "Choose a new folder with -o"))
    return path


@contextlib.contextmanager
def scratch_run(config: Config, display: Display) -> Iterator[Context]:
    """The stages of a deployment in a folder that goes away afterwards, with this machine as the target."""
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.rundir import RunDir
    from topovlm.pipeline.sources import find_model
    from topovlm.predict.target import load_target

    with (
        tempfile.TemporaryDirectory(prefix="topovlm-") as folder,
        RunDir(Path(folder), display).locked() as run,
        library_chatter(run.root / "logs" / "libraries.log"),
    ):
        here = replace(config, target="local")
        yield Context(here, find_model(config.model), load_target("local"), run)
