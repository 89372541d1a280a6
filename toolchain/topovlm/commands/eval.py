"""Accuracy of an exported model on questions with answers; with --baseline, paired against another.

Without --data the questions are the shipped benchmark's held-out split.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from topovlm.commands.common import add_options, config_of, print_json
from topovlm.commands.run import exported_folder
from topovlm.console import Display, table

_OPTIONS = ("data", "eval_samples", "seed", "threads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="exported folder or run directory")
    parser.add_argument(
        "--baseline", type=Path, metavar="FOLDER", help="compare with this one, question by question"
    )
    add_options(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    import msgspec

    from topovlm.evaluation.evaluate import check_samples
    from topovlm.pipeline.measuring import answer
    from topovlm.report.sections import accuracy_section
    from topovlm.runtime.manifest import load_manifest

    folders = [exported_folder(folder) for folder in (args.baseline, args.folder) if folder is not None]
    for folder in folders:
        load_manifest(folder)
    if config.data is None:
        from topovlm.reference.data import TEST_SEED
        from topovlm.reference.data import samples as shipped

        samples, source = shipped("test", config.eval_samples, TEST_SEED), "the shipped reference benchmark"
    else:
        from topovlm.samples import read_jsonl

        samples, source = read_jsonl(config.data)[: config.eval_samples], config.data.name
    check_samples(samples)
    display = Display()
    outcomes = []
    for folder in folders:
        with display.stage(str(folder)) as progress:
            outcomes.append(answer(folder, samples, config.threads, progress))
    section = accuracy_section(
        outcomes[0],
        outcomes[1] if len(outcomes) == 2 else None,
        source="ONNX Runtime CPU",
        sample_source=source,
        seed=config.seed,
    )
    if args.json:
        print_json(msgspec.to_builtins(section))
    else:
        families = (section.overall, *section.families)
        table(
            f"measured on {section.overall.n} questions, {source}",
            ("family", "questions", "chance", *map(str, folders), "difference"),
            [_row(family) for family in families],
        )
    return 0


def _row(family: Any) -> tuple[str, ...]:
    shares = [figure for figure in (family.dense, family.slim) if figure is not None]
    cells = [f"{100 * f.value:.1f} % ({100 * f.low:.1f}-{100 * f.high:.1f})" for f in shares]
    gap = family.difference
    change = "" if gap is None else f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    return (family.family, str(family.n), f"{100 * family.chance:.0f} %", *cells, change)
