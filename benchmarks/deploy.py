"""The README's deployments of the reference LVLM, timed and summed up; writes docs/results.md with --write:

    python -m benchmarks.deploy [--write] [--keep DIR] [--json]

Each runs in a process of its own from an empty directory, as a user's first run does. Every figure of the
table is read from the reports: measured ones from this machine, predicted ones marked.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS: dict[str, list[str]] = {
    "jetson-orin-200ms": ["--target", "jetson-orin", "--max-latency", "200ms"],
    "local-60": ["--target", "local", "--max-latency", "60%"],
}
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def run(words: list[str], out: Path) -> dict[str, Any]:
    """One deployment; its outcome with the wall time of the whole process."""
    command = [sys.executable, "-m", "topovlm", "deploy", *words, "-o", str(out), "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    stages = json.loads((out / "run.json").read_text())["stages"]
    seconds = {name: facts["seconds"] for name, facts in stages.items()}
    report = json.loads((out / "report.json").read_text())
    return {
        "words": words,
        "wall_s": wall_s,
        "stages_s": seconds,
        **json.loads(done.stdout),
        "report": report,
    }


def _figure(figure: dict[str, Any] | None, scale: float = 1.0, unit: str = "") -> str:
    if figure is None:
        return "-"
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    text = f"{scale * value:.3g}{unit}"
    return text if low is None else f"{text} ({scale * low:.3g} to {scale * high:.3g})"


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """One section per run."""
    lines = [
        "# Results",
        "",
        "Written by `python -m benchmarks.deploy --write`; do not edit. Reference LVLM, intervals at 95 %.",
        "Latency of the models is measured on the machine named below; figures for a board are predicted.",
    ]
    for result in results.values():
        report = result["report"]
        environment, latency, accuracy = report["environment"], report["latency"], report["accuracy"]
        dropped = f" (dropped: {', '.join(map(str, result['dropped']))})" if result["dropped"] else ""
        kept = f"{result['keep_layers']} of {result['total_layers']} decoder layers kept{dropped}"
        machine = f"{environment['cpu']}, {environment['threads']} threads"
        lines += [
            "",
            f"## `topovlm-deploy {' '.join(result['words'])}`",
            "",
            f"Verdict: {result['verdict']}, {kept}. Wall time {result['wall_s']:.0f} s on {machine}.",
            "",
            "| figure | dense | slim | slim / dense | kind |",
            "|---|---|---|---|---|",
        ]
        for phase in latency["phases"]:
            cells = [
                _figure(phase["dense"], 1, " ms"),
                _figure(phase["slim"], 1, " ms"),
                _figure(phase["ratio"]),
            ]
            lines.append(f"| {phase['phase'].replace('_', ' ')} | {' | '.join(cells)} | measured here |")
        overall = accuracy["overall"]
        cells = [_figure(overall["dense"], 100, " %"), _figure(overall["slim"], 100, " %")]
        lines.append(f"| right answers, {overall['n']} questions | {' | '.join(cells)} | | measured |")
        if overall["difference"]:
            lines.append(
                f"| difference in points | | {_figure(overall['difference'], 100)} | | measured, paired |"
            )
        rows = {row["kept"]: row for row in report["plan"]["rows"]}
        target = report["target"]
        depths = [result["total_layers"], *([result["keep_layers"]] if result["dropped"] else [])]
        cells = [_figure(rows[depth]["ttft"], 1, " ms") for depth in depths] + ["-"] * (2 - len(depths))
        lines.append(
            f"| first token on {target['board']} ({target['mode']}) | {' | '.join(cells)} | | predicted |"
        )
        stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["stages_s"].items())
        lines += ["", f"Stages: {stages}."]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deploy", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} in docs/")
    parser.add_argument("--keep", type=Path, help="keep the run directories here")
    parser.add_argument("--only", choices=RUNS, help="one of the runs")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    room = args.keep or Path(tempfile.mkdtemp(prefix="topovlm-deploy-"))
    chosen = {name: words for name, words in RUNS.items() if args.only in (None, name)}
    try:
        results = {name: run(words, room / name) for name, words in chosen.items()}
    finally:
        if args.keep is None:
            shutil.rmtree(room, ignore_errors=True)
    text = as_markdown(results)
    if args.write:
        from topovlm.artifacts import write_text

        write_text(RESULTS, text)
    if args.json:
        short = {name: {k: v for k, v in r.items() if k != "report"} for name, r in results.items()}
        print(json.dumps(short, indent=1))
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
