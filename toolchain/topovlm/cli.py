"""argv -> subcommand -> exit code (`exit_codes`): the one place where an error becomes one.

Nothing heavy is imported here: `topovlm --help`, `plan` and `check` must start at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from topovlm import completion, process
from topovlm.commands import COMMANDS
from topovlm.console import print_json
from topovlm.errors import InputError, explain
from topovlm.exit_codes import OF_KIND, ExitCode, help_text
from topovlm.failures import INTERNAL, failure
from topovlm.json_text import half_character
from topovlm.text import for_terminal
from topovlm.version import __version__

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises, so that usage errors take the same way out as all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See {self.prog} --help")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """As argparse's, which passes over an output that takes nothing."""
        if file is None:
            process.deliver(self.format_help().rstrip("\n"))
        else:
            super().print_help(file)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="topovlm",
        description="Make a vision-language model meet its board's latency and memory budget.",
        epilog=help_text(),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"topovlm {__version__}")
    parser.add_argument(
        "--print-completion", choices=completion.SHELLS, help="print a completion script for this shell"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, module in COMMANDS.items():
        assert module.__doc__
        summary = module.__doc__.partition("\n")[0].rstrip(".")
        child = subparsers.add_parser(
            name, help=summary, description=module.__doc__, epilog=help_text(), allow_abbrev=False
        )
        module.add_arguments(child)
        child.add_argument("--json", action="store_true", help="print one JSON document on standard output")
        child.add_argument("--debug", action="store_true", help="show the traceback of an internal error")
        child.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. `--help` and `--version` leave through SystemExit(0)."""
    typed = list(sys.argv[1:] if argv is None else argv)
    words = [_kebab(word) for word in typed]
    process.ready_streams()
    try:
        with process.ending_signals():
            try:
                return _run(typed, words)
            finally:
                process.flush_streams()
    except BrokenPipeError:  # `topovlm ... --json | head`
        return ExitCode.PIPE
    except OSError as error:  # a full disk behind `> file`
        with contextlib.suppress(OSError):
            rule = f"cannot be written ({error.strerror})"
            print(f"topovlm: {explain('standard output', words, rule)}", file=sys.stderr)
        return ExitCode.USAGE
    except KeyboardInterrupt:  # in the last moment, with nothing left to do
        return ExitCode.INTERRUPTED
    finally:
        process.silence_streams()


def _run(typed: Sequence[str], words: Sequence[str]) -> int:
    try:
        _refuse_other_encodings(typed)
        parser = build_parser()
        args = parser.parse_args(words)
        if args.print_completion:
            process.deliver(completion.script(args.print_completion, parser))
            return ExitCode.DONE
        if args.command is None:
            parser.print_help(sys.stderr)
            return ExitCode.USAGE
        args.argv = ["topovlm", *typed]
        return int(args.run(args))
    except KeyboardInterrupt as stop:
        code = ExitCode(128 + stop.number) if isinstance(stop, process.Stopped) else ExitCode.INTERRUPTED
        return _fail(f"{code.words}; run the same command again to resume", code, words)
    except (BrokenPipeError, process.OutputLost):
        raise
    except Exception as error:
        return _report(error, words)


def deploy_main() -> int:
    """`topovlm-deploy` is `topovlm deploy`."""
    return main(["deploy", *sys.argv[1:]])


def _refuse_other_encodings(words: Sequence[str]) -> None:
    """Bytes that are no UTF-8 reach us as halves of surrogate pairs, which no file or model can hold."""
    for number, word in enumerate(words, start=1):
        if half_character(word):
            rule = "is not UTF-8 text"
            raise InputError(
                explain(f"argument {number}", word, rule, "Check the terminal's encoding (locale)")
            )


def _kebab(word: str) -> str:
    """`--max_latency=60%` -> `--max-latency=60%`: both spellings are common in this field."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _report(error: Exception, words: Sequence[str]) -> int:
    found = failure(error)
    if found.kind != INTERNAL:
        return _fail(found.message, OF_KIND[found.kind], words, found.kind)
    if "--debug" in words:
        traceback.print_exception(error)
    message = f"{found.message}. Details: {_log(error, words)}"
    return _fail(message, OF_KIND[found.kind], words, found.kind)


def _fail(message: str, code: ExitCode, words: Sequence[str], kind: str = "Interrupted") -> int:
    """The message on standard error; with --json also as the one document on standard output."""
    message = for_terminal(message)
    print(f"topovlm: {message}", file=sys.stderr)
    if "--json" in words:
        print_json({"error": {"kind": kind, "message": message, "exit_code": int(code)}})
    return code


def _log(error: Exception, words: Sequence[str]) -> str:
    """Write the traceback where the user can find it; returns the path (or why there is none)."""
    from platformdirs import user_log_path

    lines = [f"topovlm {__version__}", f"argv: {list(words)}", *traceback.format_exception(error)]
    name = time.strftime("error-%Y%m%d-%H%M%S") + f"-{os.getpid()}.log"
    for folder in (user_log_path("topovlm", appauthor=False), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return str(folder / name)
    return "could not be written; run again with --debug"


if __name__ == "__main__":
    sys.exit(main())
