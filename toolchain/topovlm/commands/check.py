"""Compare a run with a baseline run; exit code 4 when it regressed.

Both are run directories (or report.json files) of like kind: same target, workload, runtime and questions.
Accuracy, of public benchmarks too, is compared question by question, latency one-sided against the noise of
both runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from topovlm.console import print_json, say
from topovlm.exit_codes import ExitCode
from topovlm.units import parse_share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("candidate", type=Path, metavar="RUN", help="the new run")
    parser.add_argument("--baseline", type=Path, required=True, metavar="RUN", help="the run to compare with")
    parser.add_argument(
        "--latency-tolerance", default="5%", metavar="SHARE", help="slow-down that is accepted (default 5%%)"
    )
    parser.add_argument(
        "--accuracy-tolerance", default="1%", metavar="SHARE", help="points that may be lost (default 1%%)"
    )
    parser.add_argument(
        "--confidence", default="95%", metavar="SHARE", help="of every verdict (default 95%%)"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")


def run(args: argparse.Namespace) -> int:
    from topovlm.records import plain
    from topovlm.report.gate import github_annotations, run_check, summary_lines

    result = run_check(
        args.candidate,
        args.baseline,
        latency_tolerance=parse_share(args.latency_tolerance, "--latency-tolerance"),
        accuracy_tolerance=parse_share(args.accuracy_tolerance, "--accuracy-tolerance"),
        confidence=parse_share(args.confidence, "--confidence"),
        junit=args.junit,
    )
    for line in summary_lines(result):
        say(line)
    # GitHub reads both streams; with --json standard output is the document's.
    for line in github_annotations(result):
        print(line, file=sys.stderr if args.json else sys.stdout)
    if args.json:
        print_json(plain(result))
    return ExitCode.REGRESSION if result.regressed else ExitCode.DONE
