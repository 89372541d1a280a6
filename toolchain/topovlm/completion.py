"""Completion scripts for bash, zsh and fish, written from the parser so that they cannot lag behind."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
_PROGRAMS = ("topovlm", "topovlm-deploy")


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for one shell; `eval` it, or store it where the shell looks for completions."""
    commands = _commands(parser)
    if shell == "fish":
        return _fish(commands)
    return _bash(commands, zsh=shell == "zsh")


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, list[argparse.Action]]]:
    """command -> (summary, its actions)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {
                name: (summaries.get(name, ""), [a for a in child._actions if a.option_strings])
                for name, child in action.choices.items()
            }
    return {}


def _flags(actions: list[argparse.Action]) -> list[str]:
    return [flag for action in actions for flag in action.option_strings if flag.startswith("--")]


def _bash(commands: dict[str, tuple[str, list[argparse.Action]]], *, zsh: bool) -> str:
    lines = ["autoload -U +X bashcompinit && bashcompinit"] if zsh else []
    lines += [
        "_topovlm() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]}" words=""',
        '  [ "${COMP_WORDS[0]##*/}" = topovlm-deploy ] && command=deploy',
        f'  if [ "$COMP_CWORD" -eq 1 ] && [ "$command" != deploy ]; then words="{" ".join(commands)}"; fi',
        '  case "$command" in',
    ]
    for name, (_, actions) in commands.items():
        lines.append(f'    {name}) case "$word" in -*) words="{" ".join(_flags(actions))}";; esac;;')
    lines += [
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        f"complete -o default -F _topovlm {' '.join(_PROGRAMS)}",
    ]
    return "\n".join(lines)


def _fish(commands: dict[str, tuple[str, list[argparse.Action]]]) -> str:
    lines = []
    for name, (summary, actions) in commands.items():
        lines.append(f"complete -c topovlm -n __fish_use_subcommand -a {name} -d {_quoted(summary)}")
        places = [f"-c topovlm -n '__fish_seen_subcommand_from {name}'"]
        places += ["-c topovlm-deploy"] if name == "deploy" else []
        for place in places:
            for action in actions:
                for flag in action.option_strings:
                    if flag.startswith("--"):
                        text = _quoted(str(action.help or "").replace("%%", "%"))
                        lines.append(f"complete {place} -l {flag[2:]} -d {text}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
