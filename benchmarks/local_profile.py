"""How well a profile of this machine predicts depths that it never timed:

    python -m benchmarks.local_profile DIR [--depths 3,6,8,12,14]

Profiles the exported folder as a local deployment does, then times cuts of other depths, and prints
predicted against measured for every phase.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from topovlm.errors import InputError, VerificationError
from topovlm.hardware.probe import default_layer_counts, measure_local
from topovlm.hardware.slices import slice_export
from topovlm.runtime.engine import Engine
from topovlm.runtime.timing import TimingRules, compare
from topovlm.runtime.workload import synthetic_workload
from topovlm.units import format_ms, parse_duration_ms


def unseen_depths(layers: int) -> list[int]:
    """Up to six depths that the profile does not time, spread evenly."""
    timed = {*default_layer_counts(layers), layers}
    free = [n for n in range(2, layers) if n not in timed]
    step = max(1, len(free) // 6)
    return free[::step][:6]


def check(folder: Path, depths: list[int], rules: TimingRules, threads: int | None) -> list[dict[str, Any]]:
    """One row per (layers, phase): predicted and measured ms, relative error."""
    profile = measure_local(folder, threads=threads, rules=rules)
    work = profile["workload"]
    with tempfile.TemporaryDirectory(prefix=".slices-", dir=folder.resolve().parent) as room:
        engines = {
            str(n): Engine(slice_export(folder, n, Path(room) / str(n), profile["variant"]), threads=threads)
            for n in depths
        }
        workload = synthetic_workload(
            next(iter(engines.values())),
            images=work["images"],
            prompt_tokens=work["prefill_tokens"],
            new_tokens=work["new_tokens"],
        )
        run = compare(engines, workload, rules)
    rows = []
    for depth in depths:
        samples = run.engines[str(depth)].samples
        for phase in ("vision", "embed", "prefill", "token"):
            line = profile["phases"][phase]
            predicted = line["intercept_ms"] + line["slope_ms_per_layer"] * depth
            measured = median(samples[phase])
            error = predicted / measured - 1
            rows.append(
                {
                    "layers": depth,
                    "phase": phase,
                    "predicted_ms": predicted,
                    "measured_ms": measured,
                    "error": error,
                }
            )
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_profile", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="exported folder, dense")
    parser.add_argument(
        "--depths", help="decoder layers to check, e.g. 3,6,12 (default: up to six unseen ones)"
    )
    parser.add_argument("--time-limit", default="30s", help="of each of the two timing runs, e.g. 60s")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(argv)
    try:
        rules = TimingRules(
            time_limit_s=parse_duration_ms(args.time_limit, "--time-limit") / 1e3, memory=False
        )
        layers = Engine(args.folder, threads=args.threads).manifest.layers
        depths = [int(n) for n in args.depths.split(",")] if args.depths else unseen_depths(layers)
        rows = check(args.folder, depths, rules, args.threads)
    except (InputError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 6
    print("layers  phase     predicted   measured    error")
    for row in rows:
        times = f"{format_ms(row['predicted_ms']):>9}  {format_ms(row['measured_ms']):>9}"
        print(f"{row['layers']:>6}  {row['phase']:<8} {times}  {100 * row['error']:+6.1f} %")
    errors = sorted(abs(row["error"]) for row in rows)
    print(
        f"median |error| {100 * median(errors):.1f} %, largest {100 * errors[-1]:.1f} %, {len(rows)} points"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
