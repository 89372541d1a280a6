"""Fit the latency and memory predictor to the published rows, judge it on held-out rows, store it.

    python -m benchmarks.fit_predictor            # fit, print, write efficiencies.json
    python -m benchmarks.fit_predictor --check    # fit and print; fail if the stored file differs

Held out: all rows of one model, or of one device, at a time; everything (constants, pooled medians,
borrowing costs, intervals) is fitted again without them, and they are predicted as a user's board would
be. Two naive baselines stand beside: 40 % of peak arithmetic, and all bytes at peak bandwidth.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.predictor_fit.fit import borrow_spreads, fit_all, fit_coefficients, log_error
from benchmarks.predictor_fit.rows import MemoryRow, PhaseRow, read_rows
from topovlm.artifacts import write_text
from topovlm.predict.efficiencies import PATH, Coefficients, Entry, HeldOut, pick
from topovlm.records import encode, plain

DATA = Path(__file__).parent / "data"
COMMAND = "python -m benchmarks.fit_predictor"
FLAT_MFU = 0.4
ORIN_TENSORRT = ("jetson-orin", "tensorrt")


@dataclass(frozen=True)
class Judged:
    """One held-out row: log error of its prediction, whether the interval covered it, whether borrowed."""

    row: PhaseRow
    error: float
    covered: bool
    borrowed: bool


def hold_out(
    rows: Sequence[PhaseRow], group: Callable[[PhaseRow], str], only: Collection[str] | None = None
) -> list[Judged]:
    """Leave one group (of `only`, else every one) out at a time, fit everything else, predict the group."""
    judged = []
    for name in sorted({group(row) for row in rows} if only is None else only):
        rest = [row for row in rows if group(row) != name]
        entries = fit_all(rest)
        borrow = borrow_spreads(rest, entries)
        for row in rows:
            if group(row) == name and any(entry.phase == row.phase for entry in entries):
                judged.append(_judge(row, entries, borrow))
    return judged


def _judge(row: PhaseRow, entries: tuple[Entry, ...], borrow: dict[str, float]) -> Judged:
    found = pick(entries, borrow, row.key, row.phase)
    share = pick(entries, borrow, row.key, "decode").entry.efficiency
    error = log_error(found.entry, row, share)
    return Judged(row, error, abs(error) <= math.log1p(found.spread), found.borrowed)


def flat_mfu_s(row: PhaseRow) -> float:
    """Baseline 1: every operation at 40 % of the dense peak (decode: two operations per weight)."""
    if row.phase == "decode":
        return row.read_bytes / (FLAT_MFU * row.machine.arithmetic_flop_per_s)
    flop = row.linear_flop + row.attention_flop
    return flop / (FLAT_MFU * row.machine.arithmetic_flop_per_s)


def pure_bandwidth_s(row: PhaseRow) -> float:
    """Baseline 2: every byte once, at peak bandwidth (not for towers: the rows do not give their bytes)."""
    bytes_read = row.read_bytes or row.weight_bytes
    return bytes_read / row.machine.bandwidth_bytes_per_s


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _share(errors: Sequence[float], quantile: float) -> float:
    return math.expm1(float(np.quantile(np.abs(errors), quantile)))


def _baseline(rows: Sequence[PhaseRow], form: Callable[[PhaseRow], float]) -> str:
    errors = [abs(form(row) / row.seconds - 1) for row in rows if form(row) > 0]
    return _percent(float(np.median(errors))) if errors else "-"


def print_constants(console: Console, found: Coefficients) -> None:
    """One line per entry."""
    table = Table(title="Constants (fitted; spread = stated interval)", title_justify="left")
    for column in (
        "phase",
        "family / runtime / dtype",
        "rows",
        "share of peak",
        "kclk/layer",
        "host us/layer",
    ):
        table.add_column(column)
    table.add_column("p")
    table.add_column("spread")
    for entry in found.entries:
        table.add_row(
            entry.phase,
            f"{entry.family} / {entry.runtime} / {entry.dtype}",
            f"{entry.rows} ({len(entry.devices)} dev, {len(entry.models)} mod)",
            f"{entry.efficiency:.3f}",
            f"{entry.layer_kcycles:.0f}",
            f"{entry.host_us_per_layer:.0f}",
            str(entry.overlap) if entry.phase == "prefill" else "",
            f"±{100 * entry.spread:.0f} %",
        )
    console.print(table)


def print_errors(
    console: Console, rows: Sequence[PhaseRow], by_kind: dict[str, list[Judged]], only: str | None
) -> None:
    """Errors per phase and key on held-out rows, beside the baselines on the same rows."""
    title = "Held-out errors (median / 90th percentile), coverage of the stated interval, baselines (median)"
    table = Table(title=title, title_justify="left")
    for column in (
        "phase",
        "family / runtime / dtype",
        "rows",
        "new model",
        "covered",
        "new device",
        "covered",
    ):
        table.add_column(column)
    table.add_column("MFU 0.4")
    table.add_column("bandwidth")
    keys = sorted({(row.phase, row.key) for row in rows})
    for phase, key in keys:
        members = [row for row in rows if (row.phase, row.key) == (phase, key)]
        if only and only not in key:
            continue
        cells = [phase, " / ".join(key), str(len(members))]
        for kind in ("model", "device"):
            hits = [judged for judged in by_kind[kind] if (judged.row.phase, judged.row.key) == (phase, key)]
            cells += _cells(hits)
        table.add_row(*cells, _baseline(members, flat_mfu_s), _baseline(members, pure_bandwidth_s))
    console.print(table)


def _cells(hits: Sequence[Judged]) -> list[str]:
    if not hits:
        return ["-", "-"]
    errors = [judged.error for judged in hits]
    borrowed = "*" if any(judged.borrowed for judged in hits) else ""
    covered = sum(judged.covered for judged in hits) / len(hits)
    return [
        f"{_percent(_share(errors, 0.5))} / {_percent(_share(errors, 0.9))}{borrowed}",
        f"{100 * covered:.0f} %",
    ]


def summarise(rows: Sequence[PhaseRow], by_kind: dict[str, list[Judged]]) -> dict[str, HeldOut]:
    """The figures that the project's aims are stated in, by phase and kind of hold-out."""
    summary = {}
    for kind, judged in by_kind.items():
        orin = [hit for hit in judged if hit.row.key[:2] == ORIN_TENSORRT]
        for phase in ("vision", "prefill", "decode"):
            hits = [hit for hit in orin if hit.row.phase == phase]
            summary[f"orin-tensorrt {phase}, new {kind}"] = figures(hits)
            if phase == "vision":
                # Plain ViT rows come from a table that states no batch; these are towers of LVLMs.
                hits = [hit for hit in hits if hit.row.tool == "trt-edge-llm"]
                summary[f"  of which LVLM towers, new {kind}"] = figures(hits)
        summary[f"all rows, new {kind}"] = figures(judged)
    for name, form in (("flat MFU 0.4", flat_mfu_s), ("pure bandwidth", pure_bandwidth_s)):
        for label, some in (
            ("", rows),
            (" on orin-tensorrt", [r for r in rows if r.key[:2] == ORIN_TENSORRT]),
        ):
            errors = [abs(form(row) / row.seconds - 1) for row in some if form(row) > 0]
            summary[f"baseline {name}{label}"] = HeldOut(
                rows=len(errors),
                median=round(float(np.median(errors)), 4),
                p90=round(float(np.quantile(errors, 0.9)), 4),
            )
    return summary


def figures(hits: Sequence[Judged]) -> HeldOut:
    """Quantiles of the relative errors, and the share that the stated interval covered."""
    errors = [hit.error for hit in hits]
    return HeldOut(
        rows=len(hits),
        median=round(_share(errors, 0.5), 4),
        p90=round(_share(errors, 0.9), 4),
        covered=round(sum(hit.covered for hit in hits) / len(hits), 3),
    )


def print_summary(console: Console, summary: dict[str, HeldOut]) -> None:
    """The aims and what was reached."""
    table = Table(title="Summary", title_justify="left")
    for column in ("what", "rows", "median error", "90th percentile", "interval covers"):
        table.add_column(column)
    for name, figures in summary.items():
        covered = "-" if figures.covered is None else _percent(figures.covered)
        table.add_row(name, str(figures.rows), _percent(figures.median), _percent(figures.p90), covered)
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, print, store. Exit 1 with `--check` when the stored file is not what the rows give."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, default=DATA / "published_rows.json")
    parser.add_argument("--shapes", type=Path, default=DATA / "model_shapes.json")
    parser.add_argument("--output", type=Path, default=PATH)
    parser.add_argument("--check", action="store_true", help="do not write; fail if the stored file differs")
    parser.add_argument("--only", help="show held-out errors of one family, runtime or dtype")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    args = parser.parse_args(argv)
    console = Console(stderr=args.json, width=None if sys.stdout.isatty() else 150)
    rows, memory_rows, digest = read_rows(args.rows, args.shapes)
    found = fit(rows, memory_rows, digest)
    print_constants(console, found)
    by_kind = {
        "model": hold_out(rows, lambda row: row.model),
        "device": hold_out(rows, lambda row: row.device),
    }
    print_errors(console, rows, by_kind, args.only)
    summary = summarise(rows, by_kind)
    print_summary(console, summary)
    console.print("* some of these rows were predicted with constants borrowed from another combination")
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


def fit(rows: Sequence[PhaseRow], memory_rows: Sequence[MemoryRow], digest: str) -> Coefficients:
    """Coefficients as this command stores them."""
    return fit_coefficients(rows, memory_rows, rows_sha256=digest, generated_by=COMMAND)


if __name__ == "__main__":
    sys.exit(main())
