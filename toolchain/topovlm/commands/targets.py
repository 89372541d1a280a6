"""List the boards and GPUs that can be planned for, with their power modes and aliases.

Give one name to see what it resolves to.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import print_json
from topovlm.console import say, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one target, e.g. jetson-orin-nano-8gb@15W")


def run(args: argparse.Namespace) -> int:
    from topovlm.hardware.target import list_targets, load_target

    if args.name:
        target = load_target(args.name)
        facts = target.to_dict()
        if args.json:
            print_json(facts)
        else:
            say(target.describe())
            table("", ("fact", "value"), [(key, _plain(value)) for key, value in facts.items() if value])
        return 0
    boards = list_targets()
    if args.json:
        rows = [
            {
                "id": board.id,
                "name": board.name,
                "aliases": list(board.aliases),
                "modes": [mode.name for mode in board.modes],
                "default_mode": board.default_mode,
            }
            for board in boards
        ]
        print_json(rows)
        return 0
    rows_text = [
        (
            board.id,
            ", ".join(board.aliases) or "-",
            board.default_mode,
            ", ".join(m.name for m in board.modes),
        )
        for board in boards
    ]
    table(
        f"{len(boards)} targets, and `local` for this machine",
        ("target", "aliases", "default", "modes"),
        rows_text,
    )
    return 0


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
