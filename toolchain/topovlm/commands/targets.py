"""List the boards and GPUs that can be planned for, with their power modes and aliases.

Give one name to see what it resolves to.
"""

from __future__ import annotations

import argparse

from topovlm.console import print_json, say, screen
from topovlm.records import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one target, e.g. jetson-orin-nano-8gb@15W")


def run(args: argparse.Namespace) -> int:
    from topovlm.planner.target_view import render_target, render_targets
    from topovlm.predict.target import list_boards, load_target

    if args.name:
        target = load_target(args.name)
        if args.json:
            print_json(plain(target.facts()))
        else:
            say(target.describe())
            render_target(target, screen())
        return 0
    boards = list_boards()
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
    say(f"{len(boards)} targets, and `local` for this machine")
    render_targets(boards, screen())
    return 0
