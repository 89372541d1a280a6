"""Profile, plan, score, prune, export, check, measure and report, in one go.

Results go to the run directory; running the same command again resumes or reuses what is there.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import add_options, config_of
from topovlm.config import OPTIONS
from topovlm.console import Display, print_json
from topovlm.records import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, [option.name for option in OPTIONS])
    parser.add_argument("--dry-run", action="store_true", help="plan only; write nothing")


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.dry_run:
        from topovlm.commands.plan import show
        from topovlm.pipeline.dry_run import as_deployed

        return show(as_deployed(config, Display()), args.json)

    from topovlm.pipeline.deploy import deploy

    outcome = deploy(config, args.argv, Display())
    if args.json:
        print_json(plain(outcome))
    return 0
