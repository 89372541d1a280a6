"""Fit the latency and memory predictor to the published rows, judge it on held-out rows, store it.

    python -m benchmarks.fit_predictor              # fit, print, write efficiencies.json
    python -m benchmarks.fit_predictor --check      # fit and print; fail if the stored file differs
    python -m benchmarks.fit_predictor --rows FILE  # judge the rows of FILE with the stored coefficients

Held out: all rows of one board, of one model, or of one runtime version at a time; everything (constants,
widths of levels) is fitted again without them, and they are predicted as a user's board would be. Intervals
are calibrated on these folds; a row's own fold is left out where it is counted as covered or not. Two naive
baselines stand beside: 40 % of peak arithmetic, and all bytes at peak bandwidth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.predictor_fit.folds import GROUPS, Judged, calibrated, covered, fit_phases, hold_out, judge
from benchmarks.predictor_fit.memory import fit_memory
from benchmarks.predictor_fit.rows import MemoryRow, PhaseRow, read_rows
from benchmarks.predictor_fit.tables import (
    memory_errors,
    print_constants,
    print_errors,
    print_summary,
    summarise,
)
from topovlm.artifacts import write_text
from topovlm.predict.efficiencies import PATH, SCHEMA, Coefficients, coefficients
from topovlm.predict.knowledge import Knowledge
from topovlm.predict.runtimes import RUNTIMES
from topovlm.records import encode, plain

DATA = Path(__file__).parent / "data"
COMMAND = "python -m benchmarks.fit_predictor"


def fit(
    rows: Sequence[PhaseRow], memory_rows: Sequence[MemoryRow], judged: Sequence[Judged], digest: str
) -> Coefficients:
    """Coefficients as this command stores them, all but the held-out figures."""
    fits = calibrated(fit_phases(rows), judged)
    counts = Counter(row.setting.runtime for row in rows)
    return Coefficients(
        schema=SCHEMA,
        generated_by=COMMAND,
        rows_sha256=digest,
        default_runtime=max(RUNTIMES, key=lambda name: counts[name]),
        versions=_newest(rows),
        phases=tuple(fits[phase] for phase in sorted(fits)),
        memory=fit_memory(memory_rows),
    )


def _newest(rows: Sequence[PhaseRow]) -> dict[str, str]:
    stated = {(row.setting.runtime, row.setting.version) for row in rows if row.setting.version}
    return {
        runtime: max(
            (version for name, version in stated if name == runtime),
            key=lambda version: tuple(map(int, version.split("."))),
        )
        for runtime in sorted({name for name, _ in stated})
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, print, store. Exit 1 with `--check` when the stored file is not what the rows give."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=Path, help="judge these rows with the stored coefficients; fit nothing"
    )
    parser.add_argument("--training", type=Path, default=DATA / "published_rows.json")
    parser.add_argument("--shapes", type=Path, default=DATA / "model_shapes.json")
    parser.add_argument("--output", type=Path, default=PATH)
    parser.add_argument("--check", action="store_true", help="do not write; fail if the stored file differs")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    args = parser.parse_args(argv)
    console = Console(stderr=args.json, width=None if sys.stdout.isatty() else 130)
    if args.rows:
        return _judge(args.rows, args.shapes, console, as_json=args.json)
    rows, memory_rows, digest = read_rows(args.training, args.shapes)
    judged = {kind: hold_out(rows, kind) for kind in GROUPS}
    everything = [each for some in judged.values() for each in some]
    found = fit(rows, memory_rows, everything, digest)
    print_constants(console, found)
    hits = {kind: covered(some, everything) for kind, some in judged.items()}
    for kind, some in judged.items():
        print_errors(console, f"Left out: one {kind} at a time", some, hits[kind])
    summary = summarise(judged, hits)
    print_summary(console, summary)
    console.print(f"Memory: {found.memory}")
    found = msgspec.structs.replace(found, held_out=summary)
    text = encode(found).decode()
    if args.json:
        print(json.dumps(plain(summary), indent=1))
    if args.check:
        same = args.output.read_text(encoding="utf-8") == text
        console.print(
            "stored coefficients are up to date" if same else f"{args.output} differs from this fit"
        )
        return 0 if same else 1
    write_text(args.output, text)
    console.print(f"wrote {args.output}")
    return 0


def _judge(path: Path, shapes: Path, console: Console, *, as_json: bool) -> int:
    """Rows of any file under the stored coefficients."""
    rows, memory_rows, _ = read_rows(path, shapes)
    stored = coefficients()
    judged = judge(Knowledge.published(stored), rows)
    hits = [each.score <= each.factor for each in judged]
    print_errors(console, f"{path.name} under the stored coefficients", judged, hits)
    summary = summarise({"rows": judged}, {"rows": hits})
    peaks = memory_errors(memory_rows, stored.memory)
    if peaks is not None:
        summary["memory"] = peaks
    print_summary(console, summary)
    if as_json:
        print(json.dumps(plain(summary), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
