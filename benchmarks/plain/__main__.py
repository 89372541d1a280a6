"""The plainly trained Idefics3:

python -m benchmarks.plain build DIR         the checkpoint, of plain/trained
python -m benchmarks.plain evaluate DIR      accuracy by family of the reference benchmark
python -m benchmarks.plain train --out RUN   train, or go on; `release RUN` makes the file of weights
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.plain import release
from benchmarks.plain.training import Recipe, train
from topovlm.reference.data import TEST_COUNT, TEST_SEED, samples
from topovlm.reference.release import accuracy_table, answers


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command")
    build = commands.add_parser("build", help="write the checkpoint folder")
    build.add_argument("folder", type=Path)
    evaluate = commands.add_parser("evaluate", help="answer held-out questions")
    evaluate.add_argument("folder", type=Path)
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    training = commands.add_parser("train", help="train, or go on with a run")
    training.add_argument("--out", type=Path, required=True, metavar="RUN")
    for name in ("seed", "steps", "tower_steps", "decay_steps"):
        option = f"--{name.replace('_', '-')}"
        training.add_argument(option, type=int, default=getattr(Recipe, name), metavar="N")
    released = commands.add_parser("release", help="make the file of trained weights of a run")
    released.add_argument("run", type=Path)
    args = parser.parse_args(argv)
    if args.command == "build":
        print(release.build(args.folder))
    elif args.command == "evaluate":
        _evaluate(args.folder, args.json)
    elif args.command == "release":
        print(release.write_weights(args.run))
    else:
        given = {name: getattr(args, name) for name in ("seed", "steps", "tower_steps", "decay_steps")}
        train(replace(Recipe(), **given), args.out)
    return 0


def _evaluate(folder: Path, file: Path | None) -> None:
    asked = samples("test", TEST_COUNT, TEST_SEED)
    figures = accuracy_table(asked, answers(folder, asked))
    for family, row in figures.items():
        shares = ", ".join(f"{name} {100 * row[name]:.1f} %" for name in ("accuracy", "chance", "blind"))
        print(f"{family}: {row['n']} questions, {shares}")
    if file:
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
