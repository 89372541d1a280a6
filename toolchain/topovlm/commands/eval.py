"""Accuracy of an exported model on questions with answers; with --baseline, paired against another.

Without --data the questions are the shipped benchmark's held-out split; --task names another set.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.commands.common import add_options, config_of
from topovlm.commands.run import exported_folder
from topovlm.console import Display, library_chatter, print_json, table

if TYPE_CHECKING:
    from topovlm.report.document import CategoryAccuracy

_OPTIONS = ("task", "data", "eval_samples", "seed", "threads", "workers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="exported folder or run directory")
    parser.add_argument(
        "--baseline", type=Path, metavar="FOLDER", help="compare with this one, question by question"
    )
    add_options(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    import msgspec

    from topovlm.evaluation.evaluate import check_prompts, check_samples
    from topovlm.evaluation.task import answer_tokens
    from topovlm.pipeline.constants import CONSTANTS
    from topovlm.pipeline.measuring import answer
    from topovlm.report.sections import accuracy_section
    from topovlm.runtime.prompt import prompter_of
    from topovlm.tasks import open_task
    from topovlm.workers.pool import open_pool, released

    folders = [exported_folder(folder) for folder in (args.baseline, args.folder) if folder is not None]
    prompters = [prompter_of(folder) for folder in folders]
    task = open_task(config.task, config.data)
    samples = task.samples("test", config.eval_samples, config.seed)
    check_samples(task, samples)
    for prompter in prompters:
        check_prompts(prompter, task, samples, answer_tokens(task, CONSTANTS.answer_tokens))
    display = Display()
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="topovlm-") as scratch,
        library_chatter(Path(scratch) / "libraries.log"),  # Ray tells of workers that died
        released(open_pool(config.workers, display.note)) as pool,
    ):
        for folder in folders:
            with display.stage(str(folder)) as progress:
                outcomes.append(
                    answer(folder, task, samples, config.threads_here, progress=progress, pool=pool)
                )
    section = accuracy_section(
        outcomes[0],
        outcomes[1] if len(outcomes) == 2 else None,
        source="ONNX Runtime CPU",
        sample_source=task.source,
        task=task.name,
        seed=config.seed,
    )
    if args.json:
        print_json(msgspec.to_builtins(section))
    else:
        table(
            f"measured on {section.overall.n} questions, {task.source}",
            ("category", "questions", "chance", *map(str, folders), "difference"),
            [_row(summary) for summary in (section.overall, *section.categories)],
        )
    return 0


def _row(summary: CategoryAccuracy) -> tuple[str, ...]:
    from topovlm.report.formats import figure_text

    cells = [figure_text(figure) for figure in (summary.dense, summary.slim) if figure is not None]
    change = "" if summary.difference is None else figure_text(summary.difference, as_points=True)
    return (summary.category, str(summary.n), f"{100 * summary.chance:.0f} %", *cells, change)
