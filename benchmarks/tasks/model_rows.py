"""Two trained models on the small benchmark in all ten forms: dense against a quarter of the layers removed.

    python -m benchmarks.tasks rows reference [--room DIR] [--questions 200] [--limit N] [--write]
    python -m benchmarks.tasks rows smol --room DIR --write      # SmolLM2-LVLM: hours on two cores
    python -m benchmarks.tasks page                              # the tables of docs/benchmarks.md

A deployment (`--sparsity 25%`, each model's own calibration questions) chooses and repairs; then both models
answer every form through their exported graphs, under both protocols. A command that was killed goes on where
it was: stages and answers are kept in `--room`. Clips are shown to these models of pictures as four frames,
as several pictures; where a model takes one picture alone, the form is named as one that cannot be asked.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.tasks.frames import FramesTask
from benchmarks.tasks.small import build
from topovlm import cli
from topovlm.console import Display
from topovlm.errors import InputError
from topovlm.records import plain
from topovlm.report.document import Benchmark
from topovlm.report.document.accuracy import CategoryAccuracy
from topovlm.report.formats import ABSENT, figure_text, number
from topovlm.report.store import read_report
from topovlm.samples import Sample
from topovlm.tasks.public.record import Benchmark as Record
from topovlm.tasks.public.table import BENCHMARKS, PROTOCOLS
from topovlm.tasks.public.task import PublicTask

DATA = Path(__file__).parents[1] / "data" / "task_rows.json"
SHARE = "25%"
_DEPLOY = ("--target", "jetson-orin-nano-8gb", "--sparsity", SHARE, "--measure-time", "0.2s")
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A model: `prepare` makes its folder in a room; `questions` are the deployment's words for its data."""

    title: str
    prepare: Callable[[Path], Path]
    questions: Callable[[Path], list[str]]


def _reference(_room: Path) -> Path:
    from topovlm.reference import model_dir

    return model_dir()


def _smol(room: Path) -> Path:
    from benchmarks.smol.checkpoint import build as build_model

    folder = room / "checkpoint"
    return folder if (folder / "config.json").is_file() else build_model(folder)


def _smol_questions(room: Path) -> list[str]:
    from benchmarks.smol.data import CALIBRATION_COUNT, write

    file = room / "questions" / "calibration.jsonl"
    if not file.is_file():
        write(file.parent, "calibration", CALIBRATION_COUNT)
    return ["--data", str(file)]


SUBJECTS = {
    "reference": Subject("The reference model", _reference, lambda _: []),
    "smol": Subject("SmolLM2-LVLM", _smol, _smol_questions),
}


@dataclass(frozen=True)
class Sizes:
    """Of each form `questions` are built and at most `limit` asked."""

    questions: int
    limit: int | None = None
    threads: int = 1


def measure(subject: Subject, room: Path, sizes: Sizes, more: Sequence[str] = ()) -> Row:
    """Figures of all forms. SystemExit where the deployment did not end well; `more`: words of it."""
    room.mkdir(parents=True, exist_ok=True)
    run = _deployed(subject, room, sizes.threads, more)
    return {"title": subject.title, "deployment": [*_DEPLOY, *more], **figures(run, room, sizes)}


def figures(run: Path, room: Path, sizes: Sizes) -> Row:
    """Of a finished deployment; `room` keeps questions and answers."""
    report = read_report(run)
    assert report.slim is not None
    assert report.selection is not None
    build(room / "small", sizes.questions)
    found: Row = {
        "layers": [report.dense.layers, report.slim.layers],
        "dropped": list(report.selection.dropped),
        "built": sizes.questions,
        "rows": [],
        "not_asked": {},
    }
    display = Display()
    for record in BENCHMARKS.values():
        try:
            found["rows"] += [_row(part) for part in _parts(record, room, run, sizes, display)]
        except InputError as error:
            found["not_asked"][record.name] = error.rule
    return found


def _deployed(subject: Subject, room: Path, threads: int, more: Sequence[str]) -> Path:
    out = room / "run"
    words = ["deploy", *_DEPLOY, "--model", str(subject.prepare(room)), *subject.questions(room)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main([*words, "--threads", str(threads), *more, "-o", str(out), "--json"])
    if code != 0:
        raise SystemExit(f"the deployment ended with exit code {code}: {printed.getvalue()[-2000:]}")
    return out


def _parts(record: Record, room: Path, run: Path, sizes: Sizes, display: Display) -> Iterator[Benchmark]:
    """One form under both protocols; the second is scored on the answers that the first left."""
    from topovlm.evaluation.evaluate import check_samples
    from topovlm.pipeline.benches import Bench, askable
    from topovlm.pipeline.benching import benchmark_part
    from topovlm.pipeline.measuring import answer
    from topovlm.runtime.prompt import prompter_of

    folders = {"dense": run / "baseline", "slim": run / "onnx"}
    prompters = [prompter_of(folder) for folder in folders.values()]

    def check(sample: Sample, tokens: int) -> None:
        for prompter in prompters:
            prompter.check(sample.images, sample.prompt, tokens)

    kind = PublicTask if record.videos is None else FramesTask
    for protocol in PROTOCOLS.values():
        task = kind(record, protocol, room / "small")
        samples = task.samples("all", sizes.limit or sizes.questions, 0)
        check_samples(task, samples)
        (bench,) = askable([Bench(task, tuple(samples))], check)
        said = {}
        for name, folder in folders.items():
            with display.stage(f"{task.name}, {name}") as progress:
                kept = room / "answers"
                said[name] = answer(folder, task, bench.samples, sizes.threads, progress=progress, kept=kept)
        yield benchmark_part(bench, said["dense"], said["slim"], "ONNX Runtime CPU", 0)


def _row(part: Benchmark) -> Row:
    return {
        "name": part.name,
        "form": part.title,
        "protocol": part.protocol,
        "asked": part.asked,
        "source": part.accuracy.sample_source,
        "overall": plain(part.accuracy.overall),
    }


def stored() -> dict[str, Row]:
    """Subject -> its figures, as they were last written."""
    found: dict[str, Row] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {}
    return found


def write(name: str, found: Row) -> None:
    DATA.write_text(json.dumps({**stored(), name: found}, indent=1) + "\n", encoding="utf-8")


HEADER = (
    "form", "protocol", "questions", "clusters", "chance", "dense right", "slim right",
    "difference in points", "kept beyond chance", "read: dense / slim",
)  # fmt: skip


def page(subjects: dict[str, Row]) -> str:
    """A table for each model, as Markdown."""
    parts = []
    for found in subjects.values():
        dense, slim = found["layers"]
        dropped = ", ".join(map(str, found["dropped"]))
        parts += [
            f"**{found['title']}**: {slim} of {dense} decoder layers kept (without {dropped}), chosen by",
            f"`topovlm deploy {' '.join(found['deployment'])}`. Measured:",
            "",
            f"| {' | '.join(HEADER)} |",
            f"| {' | '.join('---' for _ in HEADER)} |",
            *(f"| {' | '.join(_cells(row))} |" for row in found["rows"]),
            *(f"\n{name} cannot be asked: {rule}." for name, rule in found["not_asked"].items()),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    found = msgspec.convert(row["overall"], CategoryAccuracy)
    beyond = found.retention_corrected
    unread = (found.dense_unparsed, found.slim_unparsed or 0)
    return tuple(
        cell.replace("\u00a0", " ")
        for cell in (
            row["form"],
            row["protocol"],
            f"{found.n:,}",
            f"{found.groups:,}",
            number(found.chance, "share"),
            figure_text(found.dense),
            figure_text(found.slim),
            figure_text(found.difference, as_points=True).replace(" points", ""),
            number(beyond.value, "share") if beyond else ABSENT,
            " / ".join(number(1 - count / found.n, "share") for count in unread),
        )
    )


def main(argv: list[str]) -> int:
    """`rows`. Exit code: 0, 2 for bad words, 5 where the published decoder cannot be had."""
    from benchmarks.smollm2 import NotAvailableError

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tasks rows",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("model", choices=SUBJECTS)
    parser.add_argument("--room", type=Path, metavar="DIR", help="kept, so that the command can be resumed")
    parser.add_argument(
        "--questions", type=int, default=200, metavar="N", help="of each form, that are built"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="so many of them are asked (default: all)")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--write", action="store_true", help=f"into {DATA.name}, which `page` prints")
    parser.add_argument("--deploy", default="", metavar="WORDS", help="more words of the deployment")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        room = args.room or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="topovlm-rows-")))
        try:
            sizes = Sizes(args.questions, args.limit, args.threads)
            found = measure(SUBJECTS[args.model], room, sizes, args.deploy.split())
        except NotAvailableError as error:
            print(error)
            return 5
    print(page({args.model: found}), end="")
    if args.write:
        write(args.model, found)
    return 0
