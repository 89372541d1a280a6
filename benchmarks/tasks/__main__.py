"""The ten public benchmarks, checked:

    python -m benchmarks.tasks               agreement with lmms-eval 0.7.3, rows read, chance, empty answers
    python -m benchmarks.tasks --data DIR    the same on real data (default: a small benchmark built here)
    python -m benchmarks.tasks --golden DIR  other vectors, e.g. of all answers that are published
    python -m benchmarks.tasks small DIR     write the small benchmark
    python -m benchmarks.tasks judged DIR    MathVista's rule against a GPT model's readings (a checkout)
    python -m benchmarks.tasks rows MODEL    a trained model in all ten forms, dense against slim
    python -m benchmarks.tasks page          the tables that `rows` has written

Exit code 1 where a prompt or a score differs in a way that no record states.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.tasks import model_rows
from benchmarks.tasks.agreement import GOLDEN, Agreement, agreement, readings
from benchmarks.tasks.chance import chance_of, rules_of
from benchmarks.tasks.judged import judged, table
from benchmarks.tasks.small import build
from topovlm.errors import InputError
from topovlm.tasks.public.dataset import Dataset, read
from topovlm.tasks.public.items import Item
from topovlm.tasks.public.table import BENCHMARKS
from topovlm.tasks.public.videos import Clips


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["rows"]:
        return model_rows.main(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tasks",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=("check", "small", "judged", "page"), default="check")
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="where `small` writes, what `judged` reads"
    )
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--golden", type=Path, metavar="DIR", default=GOLDEN)
    parser.add_argument("--questions", type=int, default=200, metavar="N", help="of each, that are built")
    parser.add_argument(
        "--guesses", type=int, default=20, metavar="N", help="random answers to each question"
    )
    args = parser.parse_args(words)
    if args.command == "page":
        print(model_rows.page(model_rows.stored()), end="")
        return 0
    if args.command != "check" and args.folder is None:
        parser.error(f"{args.command} needs a folder")
    if args.command == "judged":
        print("\n".join(table(judged(args.folder))))
        return 0
    if args.command == "small":
        for name, home in build(args.folder, args.questions).items():
            print(name, home)
        return 0
    strays = _golden(args.golden)
    print()
    if args.data is not None:
        _data(args.data, args.guesses)
    else:
        with tempfile.TemporaryDirectory(prefix="topovlm-tasks-") as room:
            build(Path(room), args.questions)
            _data(Path(room), args.guesses)
    return 1 if strays else 0


def _golden(folder: Path) -> int:
    """Agreement by benchmark; returns the number of strays."""
    found: dict[str, list[Agreement]] = {name: [] for name in BENCHMARKS}
    for file in sorted(folder.glob("*.json")):
        one = agreement(file)
        found[one.task].append(one)
    print("Against lmms-eval 0.7.3: prompts and scores that are equal, stated differences, strays\n")
    print("| benchmark | prompts | scores | by a judge that repeats the text | stated differences | strays |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, many in found.items():
        stated = sum((one.stated for one in many), Counter[str]())
        differing = "; ".join(f"{count:,} {kind}" for kind, count in stated.items()) or "none"
        strays = sum(len(one.strays) for one in many)
        counts = (sum(getattr(one, part) for one in many) for part in ("prompts", "scores", "judged"))
        print(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} | {differing} | {strays} |")
    _real(folder)
    every = [stray for many in found.values() for one in many for stray in one.strays]
    for stray in every[:20]:
        print(stray, file=sys.stderr)
    return len(every)


def _real(folder: Path) -> None:
    """What either protocol reads of answers that models really gave."""
    print("\nReal answers: how many each protocol reads, how many it counts right\n")
    print("| benchmark | answers | read by lmms-eval's rule | right | read by strict | right |")
    print("| --- | --- | --- | --- | --- | --- |")
    for file in sorted(folder.glob("*-real.json")):
        answers, theirs, ours = readings(file)
        cells = (answers, *theirs, *ours)
        print(f"| {file.stem.removesuffix('-real')} | {' | '.join(f'{cell:,}' for cell in cells)} |")


def _data(folder: Path, guesses: int) -> None:
    print("On files of the true schema: rows read, chance as stated and as guessed, an empty model's score\n")
    print("| benchmark | rows | left out | clusters | clips | protocol | chance | guessed (95 %) | empty |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, record in BENCHMARKS.items():
        try:
            data = read(record, folder)
        except InputError as error:
            print(f"| {name} | {error.rule} |")
            continue
        clusters = len({item.cluster for item in data.items})
        for protocol, rule in rules_of(data).items():
            found = chance_of(data, rule, guesses)
            rows, left = f"{len(data.items):,}", f"{len(data.unreadable):,}"
            guessed = f"{found.measured:.1%} ({found.low:.1%} to {found.high:.1%})"
            print(
                f"| {name} | {rows} | {left} | {clusters:,} | {_clips(data)} | "
                f"{protocol} | {found.stated:.1%} | {guessed} | {found.empty:.1%} |"
            )


def _clips(data: Dataset) -> str:
    if data.record.videos is None:
        return ""
    clips = Clips(data.record, data.place.root)

    def is_there(item: Item) -> bool:
        try:
            return bool(clips.find(item))
        except InputError:
            return False

    return f"{sum(map(is_there, data.items)):,}"


if __name__ == "__main__":
    sys.exit(main())
