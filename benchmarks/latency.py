"""Time exported folders against each other, interleaved, on the same prompt:

    python -m benchmarks.latency DIR_A DIR_B [DIR_C ...] [--prompt-tokens 64 --new-tokens 16 --json]

Prints the median of every phase with its 95 % interval, and each folder's ratio to the first, paired by
round.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from topovlm.errors import InputError, MissingToolError
from topovlm.measure.timing import PHASES, Comparison, TimingRules, compare
from topovlm.measure.timing_workload import synthetic_workload
from topovlm.records import plain
from topovlm.runtime.engine import Engine
from topovlm.units import format_bytes, format_ms, parse_duration_ms


def table(run: Comparison) -> str:
    """Human-readable summary; every figure is measured."""
    names = list(run.engines)
    work = run.workload
    lines = [
        f"measured on {run.environment.cpu}, {run.environment.usable_cores} cores; "
        f"{work.images} pictures, {work.prefill_tokens} prompt tokens ({work.visual_tokens} visual), "
        f"{work.new_tokens} new tokens; {run.rounds} rounds ({run.stopped})"
    ]
    for name, engine in run.engines.items():
        lines.append(f"\n{name}: {engine.layers} layers, {engine.variant}, {engine.threads} threads")
        for phase in (p for p in PHASES if p in engine.samples):
            summary = engine.summary(phase)
            interval = f"[{format_ms(summary.low_ms)}, {format_ms(summary.high_ms)}]"
            text = f"  {phase:<11} {format_ms(summary.median_ms):>9}  {interval:<22}"
            if name != names[0]:
                ratio = run.ratio(names[0], name, phase)
                text += f"  x {ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            lines.append(text)
        if engine.footprint:
            peak, model = engine.footprint.peak_bytes, engine.footprint.model_bytes
            lines.append(
                f"  memory      {format_bytes(peak)} at the peak, {format_bytes(model)} of it the model's"
            )
    return "\n".join(lines + [f"warning: {text}" for text in run.warnings])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="exported folder")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, help="whole prompt, visual tokens included")
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--variant", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--provider", action="append", help="cpu (default) or cuda; may repeat")
    parser.add_argument("--time-limit", default="60s", help="with a unit, e.g. 90s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="raw samples and environment as JSON")
    args = parser.parse_args(argv)
    try:
        rules = TimingRules(
            time_limit_s=parse_duration_ms(args.time_limit, "--time-limit") / 1e3, seed=args.seed
        )
        engines = {
            f"{chr(ord('A') + i)} ({folder})": Engine(
                folder, variant=args.variant, threads=args.threads, providers=args.provider
            )
            for i, folder in enumerate(args.folders)
        }
        workload = synthetic_workload(
            next(iter(engines.values())),
            images=args.images,
            prompt_tokens=args.prompt_tokens,
            new_tokens=args.new_tokens,
            seed=args.seed,
        )
        run = compare(engines, workload, rules)
    except (InputError, MissingToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 5
    print(json.dumps(plain(run)) if args.json else table(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
