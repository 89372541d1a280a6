"""Kill a deployment (SIGKILL) in each of its stages, run it again, and compare the reports:

    python -m benchmarks.resume [--target jetson-orin-nano-8gb@7W --max-latency 60%] [--keep DIR] [--json]

One run is left alone: its content hash is what every killed and resumed run must arrive at. Each case starts
from a copy of that run from which the stage and all later ones are missing, is killed while the stage works,
and is run again. For `local` the plan comes from timings: a case killed before its plan is recorded may keep
another number of layers, and the table shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_HIDDEN = Path(".topovlm")


def command(words: list[str], out: Path) -> list[str]:
    """The deployment's command line, as a user would type it."""
    return [sys.executable, "-m", "topovlm", "deploy", *words, "-o", str(out), "--json"]


def finish(words: list[str], out: Path) -> dict[str, Any]:
    """Run to the end; returns its JSON document."""
    done = subprocess.run(command(words, out), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def kill_in(stage: str, words: list[str], out: Path) -> float:
    """SIGKILL while `stage` works, half a second into it; returns the seconds it had run."""
    process = subprocess.Popen(command(words, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.perf_counter()
    work, record = out / _HIDDEN / "work" / stage, out / _HIDDEN / "stages" / f"{stage}.json"
    while not work.exists():
        if process.poll() is not None or record.exists():
            break  # faster than we can look: killed between this stage and the next
        time.sleep(0.002)
    time.sleep(min(0.5, 0.02 if stage in ("plan", "report") else 0.5))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return time.perf_counter() - began


def stages_of(out: Path) -> list[str]:
    """The stages of a finished run, in order."""
    return list(json.loads((out / "run.json").read_text())["stages"])


def without(source: Path, target: Path, stages: list[str]) -> Path:
    """A copy of a run in which `stages` have not run; the report's record stays until a stage runs again."""
    shutil.copytree(source, target)
    for stage in stages:
        if stage != "report":
            (target / _HIDDEN / "stages" / f"{stage}.json").unlink(missing_ok=True)
    if stages == ["report"]:
        (target / _HIDDEN / "stages" / "report.json").unlink()
    return target


def stale_files(out: Path) -> list[str]:
    """What a finished run must not hold: temporary files and half-done work."""
    found = [*out.rglob(".*.tmp"), *(out / _HIDDEN / "work").glob("*")]
    return sorted(path.relative_to(out).as_posix() for path in found)


def run_case(stage: str, stages: list[str], words: list[str], room: Path) -> dict[str, Any]:
    """Kill in `stage`, resume, compare."""
    out = without(room / "undisturbed", room / f"killed-in-{stage}", stages[stages.index(stage) :])
    ran_s = kill_in(stage, words, out)
    between = (out / "report.json").exists() and stage != "report"
    began = time.perf_counter()
    outcome = finish(words, out)
    reused = sum(facts["cached"] for facts in json.loads((out / "run.json").read_text())["stages"].values())
    return {
        "stage": stage,
        "killed_after_s": round(ran_s, 2),
        "report_left_by_the_kill": between,
        "stages_reused": reused,
        "resume_s": round(time.perf_counter() - began, 2),
        "content_hash": outcome["content_hash"],
        "keep_layers": outcome["keep_layers"],
        "left_over": stale_files(out),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("--target", default="jetson-orin-nano-8gb@7W")
    parser.add_argument("--max-latency", default="60%")
    parser.add_argument("--model", default="reference")
    parser.add_argument(
        "--samples", default="64", help="calibration samples: small, the subject is the resume"
    )
    parser.add_argument("--eval-samples", default="130")
    parser.add_argument("--measure-time", default="2s")
    parser.add_argument("--format", default="onnx,tensorrt")
    parser.add_argument("--stages", help="only these, separated by commas")
    parser.add_argument("--keep", type=Path, help="keep the run directories here")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    words = []
    for name in ("target", "max_latency", "model", "samples", "eval_samples", "measure_time", "format"):
        words += ["--" + name.replace("_", "-"), getattr(args, name)]
    if args.target == "local":
        words[words.index("--format") + 1] = "onnx"
    room = args.keep or Path(tempfile.mkdtemp(prefix="topovlm-resume-"))
    room.mkdir(parents=True, exist_ok=True)
    try:
        began = time.perf_counter()
        baseline = finish(words, room / "undisturbed")
        wall_s = time.perf_counter() - began
        stages = stages_of(room / "undisturbed")
        chosen = args.stages.split(",") if args.stages else stages
        cases = [run_case(s, stages, words, room) for s in chosen]
    finally:
        if args.keep is None:
            shutil.rmtree(room, ignore_errors=True)
    same = [case["content_hash"] == baseline["content_hash"] and not case["left_over"] for case in cases]
    if args.json:
        print(json.dumps({"undisturbed": baseline, "wall_s": wall_s, "cases": cases}, indent=1))
    else:
        digest = baseline["content_hash"][:12]
        print(f"undisturbed: {wall_s:.1f} s, keeps {baseline['keep_layers']} layers, content {digest}")
        print("| killed in | after s | resumed in s | reused | keeps | same content | left over |")
        print("|---|---|---|---|---|---|---|")
        for case, fine in zip(cases, same, strict=True):
            cells = [
                case[key] for key in ("stage", "killed_after_s", "resume_s", "stages_reused", "keep_layers")
            ]
            cells += ["yes" if fine else "NO", ", ".join(case["left_over"]) or "nothing"]
            print(f"| {' | '.join(map(str, cells))} |")
        print(f"{sum(same)} of {len(same)} resumed to the same content hash")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
