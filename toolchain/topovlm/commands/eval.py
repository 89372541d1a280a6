"""Accuracy of an exported model on questions with answers; with --baseline, paired against another.

Without --data the questions are the shipped benchmark's held-out split; --task names another set. --bench
asks public benchmarks whole instead. Answers to those are kept: a run that was killed asks only the others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.commands.common import add_options, config_of
from topovlm.commands.run import exported_folder
from topovlm.console import Display, library_chatter, print_json, say, table

if TYPE_CHECKING:
    from topovlm.config import Config
    from topovlm.report.document import CategoryAccuracy
    from topovlm.samples import Sample
    from topovlm.workers.pool import Pool

_OPTIONS = ("task", "data", "eval_samples", "bench", "bench_data", "limit", "seed", "threads", "workers")
_SOURCE = "ONNX Runtime CPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="exported folder or run directory")
    parser.add_argument(
        "--baseline", type=Path, metavar="FOLDER", help="compare with this one, question by question"
    )
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="DIR",
        help="keep answers to --bench there (default: this user's cache folder)",
    )
    add_options(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    folders = [exported_folder(folder) for folder in (args.baseline, args.folder) if folder is not None]
    if config.bench is not None:
        return _benchmarks(args, config, folders)
    return _questions(args, config, folders)


@contextmanager
def _pool(config: Config, display: Display) -> Iterator[Pool]:
    from topovlm.workers.pool import open_pool, released

    with (
        tempfile.TemporaryDirectory(prefix="topovlm-") as scratch,
        library_chatter(Path(scratch) / "libraries.log"),  # Ray tells of workers that died
        released(open_pool(config.workers, display.note)) as pool,
    ):
        yield pool


def _questions(args: argparse.Namespace, config: Config, folders: list[Path]) -> int:
    import msgspec

    from topovlm.evaluation.evaluate import check_prompts, check_samples
    from topovlm.evaluation.task import answer_tokens
    from topovlm.pipeline.benches import open_benches
    from topovlm.pipeline.constants import CONSTANTS
    from topovlm.pipeline.measuring import answer
    from topovlm.report.sections import accuracy_section
    from topovlm.runtime.prompt import prompter_of
    from topovlm.tasks import open_task

    open_benches(config)  # refuses what is about none
    prompters = [prompter_of(folder) for folder in folders]
    task = open_task(config.task, config.data)
    samples = task.samples("test", config.eval_samples, config.seed)
    check_samples(task, samples)
    for prompter in prompters:
        check_prompts(prompter, task, samples, answer_tokens(task, CONSTANTS.answer_tokens))
    display = Display()
    outcomes = []
    with _pool(config, display) as pool:
        for folder in folders:
            with display.stage(str(folder)) as progress:
                outcomes.append(
                    answer(folder, task, samples, config.threads_here, progress=progress, pool=pool)
                )
    section = accuracy_section(
        outcomes[0],
        outcomes[1] if len(outcomes) == 2 else None,
        source=_SOURCE,
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


def _benchmarks(args: argparse.Namespace, config: Config, folders: list[Path]) -> int:
    import msgspec

    from topovlm.errors import InputError, explain
    from topovlm.pipeline.benches import askable, open_benches
    from topovlm.pipeline.benching import answered, benchmark_part
    from topovlm.report.tables import benchmarks as tables
    from topovlm.runtime.prompt import prompter_of
    from topovlm.workers.kept import user_folder

    for flag, value in (("--task", config.task), ("--data", config.data)):
        if value is not None:
            rule = "names other questions than --bench does"
            raise InputError(explain(flag, str(value), rule, "Ask for one of them at a time"))
    prompters = [prompter_of(folder) for folder in folders]

    def check(sample: Sample, tokens: int) -> None:
        for prompter in prompters:
            prompter.check((*sample.images, *sample.videos), sample.prompt, tokens)

    benches = askable(open_benches(config), check)
    display, kept = Display(), args.answers or user_folder("answers")
    if kept is not None:
        display.note(f"answers are kept in {kept}")
    found = []
    with _pool(config, display) as pool:
        for bench in benches:
            outcomes = []
            for folder in folders:
                with display.stage(f"{bench.task.name} {folder}") as progress:
                    outcomes.append(answered(bench, folder, config, progress, kept=kept, pool=pool))
            slim = outcomes[1] if len(outcomes) == 2 else None
            found.append(benchmark_part(bench, outcomes[0], slim, _SOURCE, config.seed))
    if args.json:
        print_json({"benchmarks": msgspec.to_builtins(found)})
        return 0
    dense, slim_name = (str(folders[0]), str(folders[-1]) if len(folders) == 2 else "slim")
    header = tables.HEADER.replace("dense right", dense).replace("slim right", slim_name)
    table(
        "measured: share right (95 % interval over clusters)", header.split("|"), list(map(tables.row, found))
    )
    for line in tables.remarks(found):
        say(f"  {line}")
    return 0
