"""Deploy every combination of models, targets and budgets, each in a run directory of its own.

--model, --target, --max-latency, --max-token-latency, --max-memory and --sparsity take several values with
commas between them; all options are those of `deploy`. A combination that cannot meet its budget is a row
that says so. With --workers, those whose figures are predicted run there, several at once.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import add_options, given_options
from topovlm.config import OPTIONS
from topovlm.console import Display, print_json, say, table
from topovlm.exit_codes import OF_KIND, ExitCode
from topovlm.records import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, [option.name for option in OPTIONS])


def run(args: argparse.Namespace) -> int:
    from topovlm.sweeps.combinations import combinations

    asked = combinations(given_options(args), args.config)

    from topovlm.sweeps.sweep import sweep
    from topovlm.sweeps.table import COLUMNS, cells, title, why

    found = sweep(asked, args.argv, Display())
    table(title(found), COLUMNS, [cells(row) for row in found.rows])
    for row in found.rows:
        if not row.deployed:
            say(why(row))
    if args.json:
        print_json(plain(found))
    first = next((row.ended for row in found.rows if row.ended), None)
    return ExitCode.DONE if first is None else OF_KIND[first.kind]
