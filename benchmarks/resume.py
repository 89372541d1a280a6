"""Disturb deployments in every stage, run them again, and compare with one that was left alone:

    python -m benchmarks.resume [--seed N] [--signals 12] [--only kill,term,two,full,tampered] [--stages A,B]
        [--write] [--keep DIR] [--json]

SIGKILL and SIGTERM at random moments of every stage; two runs at once in one directory; a disk that fills
up in each stage (as root on Linux, else not tried); bytes of results changed behind its back. A case is
right when the run that follows arrives at the same content hash, nothing is left behind (temporary files,
half-done work, processes), and what was refused was refused with exit code 2 and a sentence (143 after
SIGTERM). Two deployments are disturbed: one for a board, whose stages include the engine bundle, and one
for this machine, with a profile. Exit code 1 when any case is wrong. `--write` keeps the table in
benchmarks/data/resume.json, and what it holds of other stages and kinds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.resuming import cases, runs
from benchmarks.resuming.cases import Base, Result
from benchmarks.resuming.runs import Surroundings

RESULTS = Path(__file__).resolve().parent / "data" / "resume.json"
KINDS = ("kill", "term", "two", "full", "tampered")
# Little data: the subject is the resume. The share of layers is given, so that no timing decides on it.
_COMMON = ["--sparsity", "25%", "--samples", "48", "--eval-samples", "130", "--measure-time", "1s"]
_BOARD = ["--target", "jetson-orin-nano-8gb@7W", "--format", "onnx,tensorrt", *_COMMON]
_HERE = ["--target", "local", "--format", "onnx", *_COMMON]

Case = Callable[[Path], "Result | None"]


def undisturbed(words: list[str], room: Path) -> Base:
    """A deployment that is left alone."""
    out = room / "out"
    ended = runs.run(words, out, Surroundings(room))
    if ended.code != 0:
        raise SystemExit(f"the undisturbed run: exit code {ended.code}: {ended.last}")
    return Base(words, out, ended.document["content_hash"], runs.stages_of(out))


def home_of(bases: list[Base]) -> dict[str, Base]:
    """Every stage, and the first deployment that has it."""
    homes: dict[str, Base] = {}
    for base in bases:
        for stage in base.stages:
            homes.setdefault(stage, base)
    return homes


def plan(homes: dict[str, Base], kinds: list[str], signals: int, seed: int) -> Iterator[Case]:
    """The cases, in a fixed order; every one draws from the seed and its own name."""
    stages = list(homes)
    for kind, number in (("kill", signal.SIGKILL), ("term", signal.SIGTERM)):
        for count in range(signals if kind in kinds else 0):
            stage = stages[count % len(stages)]
            rng = Random(f"{seed}/{kind}/{count}")
            yield partial(cases.signalled, homes[stage], number, stage, rng)
    if "two" in kinds:
        stage = "score" if "score" in homes else stages[0]
        yield partial(cases.second_run, homes[stage], stage)
    for stage in stages if "full" in kinds else ():
        rng = Random(f"{seed}/full/{stage}")
        yield partial(cases.disk_full, homes[stage], stage, rng)
    if "tampered" in kinds:
        for stage, base in homes.items():
            for output in runs.outputs(base.out, stage):
                rng = Random(f"{seed}/tampered/{output}")
                yield partial(cases.tampered, base, stage, output, rng)
        yield partial(cases.tampered_digests, homes[stages[0]], Random(f"{seed}/digests"))


def as_markdown(results: list[Result]) -> str:
    """A line per case, then the counts."""
    lines = ["| case | stage | moment | as it should be |", "|---|---|---|---|"]
    for result in results:
        fine = "yes" if not result.wrong else "NO: " + "; ".join(result.wrong).replace("|", "\\|")
        lines.append(f"| {result.case} | {result.stage} | {result.moment} | {fine} |")
    right = Counter(result.case for result in results if not result.wrong)
    for case, count in Counter(result.case for result in results).items():
        lines.append(f"{case}: {right[case]} of {count} as it should be")
    return "\n".join(lines)


def _kept(results: list[Result]) -> list[dict[str, str]]:
    """Cases of the stored table of which none ran again: --only and --stages replace their own."""
    if not RESULTS.is_file():
        return []
    again = {(result.case, result.stage) for result in results}
    stored = json.loads(RESULTS.read_text())["cases"]
    return [row for row in stored if (row["case"], row["stage"]) not in again]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resume",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", type=int, default=12, help="of each kind (default 12)")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of case, separated by commas")
    parser.add_argument("--stages", help="only these, separated by commas")
    parser.add_argument("--write", action="store_true", help=f"keep the results in {RESULTS.name}")
    parser.add_argument("--keep", type=Path, help="keep the undisturbed runs here, and use them")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    kinds = args.only.split(",")
    if not set(kinds) <= set(KINDS):
        parser.error(f"--only: choose among {', '.join(KINDS)}")
    if "full" in kinds and not (sys.platform == "linux" and os.geteuid() == 0):
        print("disk full: not tried, it takes root on Linux to make a small disk", file=sys.stderr)
        kinds.remove("full")
    room = Path(tempfile.mkdtemp(prefix="topovlm-resume-"))
    kept = args.keep or room
    try:
        bases = [undisturbed(_BOARD, kept / "board"), undisturbed(_HERE, kept / "here")]
        homes = home_of(bases)
        if args.stages:
            homes = {stage: homes[stage] for stage in args.stages.split(",")}
        results = []
        for number, case in enumerate(plan(homes, kinds, args.signals, args.seed)):
            place = room / str(number)
            place.mkdir()
            result = case(place)
            shutil.rmtree(place)
            if result is not None:
                results.append(result)
                said = "as it should be" if not result.wrong else "; ".join(result.wrong)
                print(f"{result.case} in {result.stage}, {result.moment}: {said}", file=sys.stderr)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    document: dict[str, Any] = {"seed": args.seed, "cases": [asdict(result) for result in results]}
    if args.write:
        document["cases"] = [*_kept(results), *document["cases"]]
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1) if args.json else as_markdown(results))
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
