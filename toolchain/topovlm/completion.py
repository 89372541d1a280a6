"""Completion scripts, written from the parsers: commands, flags, files, choices; they cannot lag behind."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
_FILES = {"FILE", "RUN"}
_FOLDERS = {"DIR", "FOLDER"}


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for one shell; `eval` it, or store it where the shell looks for completions.

    Completes `parser`'s program and `topovlm-deploy`, which is its command `deploy`.
    """
    import shtab

    parsers = _commands(parser)
    for command in (parser, *parsers.values()):
        for action in command._actions:
            metavars = {action.metavar} if isinstance(action.metavar, str) else set()
            if metavars & (_FILES | _FOLDERS):
                action.complete = shtab.FILE if metavars & _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    whole = shtab.complete(parser, shell)
    parsers["deploy"].prog = "topovlm-deploy"  # scripts are named by it
    return f"{whole}\n{shtab.complete(parsers['deploy'], shell)}"


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
