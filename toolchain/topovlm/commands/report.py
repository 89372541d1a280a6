"""Write the Markdown and HTML forms of a run's report.json again, and print its answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from topovlm.artifacts import check_output
from topovlm.console import print_json, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="run directory, or a report.json")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write there instead of beside it")


def run(args: argparse.Namespace) -> int:
    from topovlm.report.html import render_html
    from topovlm.report.identity import content_hash
    from topovlm.report.markdown import render_markdown
    from topovlm.report.store import read_report, write_together
    from topovlm.report.summary import cards, verdict

    if args.output:
        check_output(args.output)
    report = read_report(args.folder)
    folder = args.output or (args.folder if args.folder.is_dir() else args.folder.parent)
    text, page = render_markdown(report), render_html(report)
    write_together(folder, {"report.md": text.encode(), "report.html": page.encode()})
    answers = cards(report)
    if args.json:
        rows = [
            {"question": c.question, "status": c.status, "answer": c.headline, "kind": c.kind}
            for c in answers
        ]
        print_json({"verdict": verdict(report), "answers": rows, "content_hash": content_hash(report)})
    else:
        say(verdict(report))
        for card in answers:
            say(f"  {card.question} {card.status}: {card.headline}")
        say(f"  {folder / 'report.html'}")
    return 0
