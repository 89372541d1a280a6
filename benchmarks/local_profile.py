"""How well a profile of this machine predicts what it never timed:

    python -m benchmarks.local_profile [DIR ...] [--points 18 --time-limit 30s --json]

Profiles each exported folder as `topovlm profile` does (a few slices and the dense model, at four prompt
lengths), then times other depths and other lengths and prints predicted against measured. The dense model at
the workload itself is timed in both runs: it tells how far the machine's own pace changed between them.
Without DIR two models are exported: the reference model, and a wider random one of another family; `--large`
takes a random one of the size of LLaVA-OneVision-0.5B instead of the latter. `--together` times what the
profile knows and what it does not in the same rounds: what is left is the error of the form, without the
machine's own change of pace. `--provider cuda` runs on the GPU, in fp16; `--profiles DIR` files the profiles.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from topovlm.console import say
from topovlm.errors import InputError, MissingToolError, VerificationError, explain
from topovlm.exporters.onnx.slices import slice_export
from topovlm.measure.probe import measure_local
from topovlm.measure.profile import fit_surfaces
from topovlm.measure.settings import ProfileRequest, RunSettings
from topovlm.measure.sweep import sweep, warm_up
from topovlm.measure.timing import TimingRules
from topovlm.measure.timing_workload import synthetic_workload
from topovlm.predict.profile import save_profile
from topovlm.records import plain
from topovlm.runtime.engine import Engine
from topovlm.units import format_ms, parse_duration_ms

PHASES = ("prefill", "token")
_QUIET_LOAD = 0.5  # running tasks per core, averaged over a minute


def unseen(timed: Sequence[int], count: int, least: int = 2) -> list[int]:
    """Up to `count` whole numbers between `timed` ones, away from them, spread from low to high."""
    lowest, highest = max(least, min(timed)), max(timed)
    free = [n for n in range(lowest, highest) if n not in timed]
    if len(free) <= count:
        return free
    return [free[round((place + 0.5) * len(free) / count - 0.5)] for place in range(count)]


def check(
    folder: Path,
    *,
    rules: TimingRules,
    points: int = 9,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    depths: Sequence[int] = (),
    together: bool = False,
) -> dict[str, Any]:
    """Profile `folder`, time at least `points` (layers, length) pairs that it did not, compare. JSON-able.

    `together`: the profile's pairs are timed once more among the others, and predict from there.
    """
    settings = RunSettings(threads=threads, providers=None if providers is None else tuple(providers))
    profile = measure_local(folder, ProfileRequest(rules=rules, run=settings))
    work, visual = profile.workload, profile.workload.visual_tokens
    new_tokens, dense, anchor = work.new_tokens, profile.layers, work.prefill_tokens
    layers = list(depths) or unseen(profile.depths, 4)
    lengths = unseen(profile.lengths, max(1, -(-points // max(1, len(layers)))), min(profile.lengths))
    if not layers or not lengths:
        rule = "leaves no depth or no prompt length between those that the profile times"
        raise InputError(explain("DIR", str(folder), rule, "Give a deeper model or a longer context"))
    known = [(n, tokens) for n in profile.depths for tokens in profile.lengths]
    again = known if together else [(dense, anchor)]
    with tempfile.TemporaryDirectory(prefix=".slices-", dir=folder.resolve().parent) as room:
        engines = {
            n: Engine(
                slice_export(folder, n, Path(room) / str(n), profile.variant),
                threads=threads,
                providers=providers,
            )
            for n in sorted({*layers, *(n for n, _ in again)} - {dense})
        }
        one = engines[dense] = Engine(folder, variant=profile.variant, threads=threads, providers=providers)
        workloads = {
            tokens: synthetic_workload(one, images=work.images, prompt_tokens=tokens, new_tokens=new_tokens)
            for tokens in sorted({*lengths, *(tokens for _, tokens in again)})
        }
        warm_up(engines, workloads, rules.warmup)
        run = sweep(engines, workloads, rules)
    surfaces = {phase: profile.surfaces[phase] for phase in PHASES}
    if together:
        part = replace(run, samples={cell: run.samples[cell] for cell in known})
        surfaces = fit_surfaces(part, new_tokens)
    rows = []
    for depth, tokens in sorted(run.samples):
        if depth in profile.depths and tokens in profile.lengths:
            continue
        for phase in PHASES:
            at = tokens + new_tokens / 2 if phase == "token" else tokens
            predicted = surfaces[phase].ms(depth, at)
            measured = median(run.samples[depth, tokens][phase])
            spread = profile.spread.decode if phase == "token" else profile.spread.prefill
            rows.append(
                {
                    "layers": depth,
                    "prompt_tokens": tokens - visual,
                    "phase": phase,
                    "predicted_ms": predicted,
                    "measured_ms": measured,
                    "error": predicted / measured - 1,
                    "within": abs(measured / predicted - 1) <= spread,
                }
            )
    before = profile.samples[str(dense)][str(anchor)]
    return {
        "folder": folder.name,
        "whole_profile": profile,
        "rows": rows,
        "pace": {
            phase: median(run.samples[dense, anchor][phase]) / median(before[phase]) - 1 for phase in PHASES
        },
        "drift": run.drift,
        "seconds": profile.seconds,
        "profile": {
            key: plain(getattr(profile, key))
            for key in ("depths", "lengths", "workload", "spread", "warnings")
        },
        "threads": profile.threads,
        "runtime": profile.runtime,
    }


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median and largest error over all rows, and how many lie within the interval that was stated."""
    rows = [row for result in found for row in result["rows"]]
    errors = [abs(row["error"]) for row in rows]
    return {
        "points": len(rows),
        "median_error": median(errors),
        "max_error": max(errors),
        "within": sum(row["within"] for row in rows) / len(rows),
    }


def table(result: dict[str, Any]) -> str:
    """Predicted against measured, one row per point."""
    timed = result["profile"]
    visual = timed["workload"]["visual_tokens"]
    lines = [
        f"{result['folder']}: {result['runtime']}, {result['threads']} threads; profile in "
        f"{result['seconds']:.0f} s from layers {timed['depths']} at prompt tokens "
        f"{[tokens - visual for tokens in timed['lengths']]} (+ {visual} visual)",
        "layers  prompt  phase    predicted   measured    error",
    ]
    for row in result["rows"]:
        times = f"{format_ms(row['predicted_ms']):>9}  {format_ms(row['measured_ms']):>9}"
        place = f"{row['layers']:>6}  {row['prompt_tokens']:>6}  {row['phase']:<7}"
        lines.append(f"{place}  {times}  {100 * row['error']:+6.1f} %")
    pace = ", ".join(f"{phase} {100 * change:+.1f} %" for phase, change in result["pace"].items())
    lines.append(f"the machine itself, between the two runs: {pace}")
    lines += [f"note: {warning}" for warning in timed["warnings"]]
    return "\n".join(lines)


# Decoder and tower of LLaVA-OneVision-0.5B as a plain LLaVA: Qwen2-0.5B, SigLIP so400m at 384 px.
_LARGE_TEXT = {"intermediate_size": 4864, "num_attention_heads": 14, "max_position_embeddings": 4096}
_LARGE_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "patch_size": 16,
}


def export_models(room: Path, dtype: str, large: bool) -> list[Path]:
    """The reference model and a larger random one, exported below `room`."""
    from tests.tiny import build

    from topovlm.exporters.onnx.export import export_onnx
    from topovlm.reference import model_dir

    other, checkpoint = "random-llama", room / "checkpoint"
    if large:
        other = "random-qwen2-0.5b"
        text, vision = _LARGE_TEXT, _LARGE_VISION
        build(checkpoint, "siglip-qwen2", layers=24, width=896, image_size=384, text=text, vision=vision)
    else:
        build(checkpoint, "clip-llama", layers=12, width=192)
    for name, source in (("reference", model_dir()), (other, checkpoint)):
        say(f"exporting {name}")
        export_onnx(source, room / name, variants=("fused",), dtype=dtype)
    return [room / "reference", room / other]


def busy() -> str | None:
    """Why this machine is no place for timings now; None when it is quiet."""
    if not hasattr(os, "getloadavg"):
        return None
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"load {load:.1f} on {cores} cores" if load > _QUIET_LOAD * cores else None


def run_all(
    folders: Sequence[Path],
    check_one: Callable[[Path], dict[str, Any]],
    dtype: str = "fp32",
    large: bool = False,
) -> list[dict[str, Any]]:
    """Check the folders, or two models exported for the purpose."""
    with ExitStack() as stack:
        if not folders:
            held = tempfile.TemporaryDirectory(prefix="topovlm-local-profile-")
            folders = export_models(Path(stack.enter_context(held)), dtype, large)
        return [check_one(folder) for folder in folders]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_profile", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="exported folders, dense")
    parser.add_argument("--points", type=int, default=9, help="unseen (layers, length) pairs per model")
    parser.add_argument("--depths", default="", help="decoder layers to check, e.g. 3,9,12")
    parser.add_argument("--time-limit", default="30s", help="of each of the two timing runs, e.g. 60s")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--provider", default="cpu", help="cpu or cuda")
    parser.add_argument("--together", action="store_true", help="time known and unknown points in turns")
    parser.add_argument("--large", action="store_true", help="a random model of half a billion parameters")
    parser.add_argument("--profiles", type=Path, metavar="DIR", help="file the profiles below this folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        limit_s = parse_duration_ms(args.time_limit, "--time-limit") / 1e3
        rules = TimingRules(time_limit_s=limit_s, memory=False, precision=0.01)
        depths = [int(n) for n in args.depths.split(",") if n]
        noise = busy()
        found = run_all(
            args.folders,
            lambda folder: check(
                folder,
                rules=rules,
                points=args.points,
                threads=args.threads,
                providers=[args.provider],
                depths=depths,
                together=args.together,
            ),
            "fp32" if args.provider == "cpu" else "fp16",
            args.large,
        )
    except (InputError, MissingToolError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return {InputError: 2, MissingToolError: 5}.get(type(error), 6)
    total = summary(found)
    for result in found:
        profile = result.pop("whole_profile")
        if args.profiles:
            say(f"wrote {save_profile(profile, args.profiles / result['folder'], force=True)}")
    if args.json:
        print(json.dumps({"models": found, "summary": total, "busy": noise}, indent=1))
        return 0
    for result in found:
        print(table(result), end="\n\n")
    print(
        f"{total['points']} points: median |error| {100 * total['median_error']:.1f} %, "
        f"largest {100 * total['max_error']:.1f} %; "
        f"{100 * total['within']:.0f} % within the interval stated"
    )
    if noise:
        print(f"the machine was busy ({noise}): run again on a quiet one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
