"""Every stage on a checkpoint of eight billion parameters, within a bound of memory, against its floor:

    python -m benchmarks.large [--layers 32] [--memory 8GiB] [--samples 4] [--drop 8]
        [--stages score,select,...] [--room DIR] [--write] [--json]

The shape of LLaVA-NeXT-Llama-3-8B with random weights in bfloat16 (16.7 GB), made on the spot. Each stage
runs in a process of its own, bound as --memory bounds a command, from files that are not cached. Its floor is
what its products with weights take at the rate of one matrix product on this machine, or their bytes at the
rate of a cached file, whichever is more, and never less than reading the model once from the disk. `--room`:
work there, keep what stages leave, and take what an earlier call left. `--write` keeps the table in
benchmarks/data/large.json, and what it holds of other stages. Exit code 1 where a stage fails or takes more
memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from topovlm.units import format_bytes, parse_bytes

STAGES = ("score", "select", "prune", "verify", "repair", "export")
RESULTS = Path(__file__).resolve().parent / "data" / "large.json"


def run_stage(name: str, room: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What the stage measured; `error` where it failed."""
    from benchmarks.scale.rates import forget_cached

    for file in room.rglob("*.safetensors"):
        forget_cached(file)
    answer = room / f"{name}.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.scale.stages", name, str(room)]
    command += ["--memory-bytes", str(parse_bytes(args.memory, "--memory"))]
    command += ["--samples", str(args.samples), "--drop", str(args.drop)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if not answer.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"error": last, "exit": done.returncode}
    found: dict[str, Any] = json.loads(answer.read_text())
    read_once = sum(file.stat().st_size for file in (room / "dense").glob("*.safetensors"))
    found["read_once_s"] = read_once / json.loads((room / "rates.json").read_text())["disk_read"]
    return found


def prepare(room: Path, layers: int) -> None:
    """The checkpoint and the machine's rates, where they are not there yet."""
    from benchmarks.scale import checkpoint, rates

    dense = room / "dense"
    config = dense / "config.json"
    if not config.is_file() or json.loads(config.read_text())["text_config"]["num_hidden_layers"] != layers:
        checkpoint.build(dense, layers)
    rates.measure(next(dense.glob("*.safetensors"))).save(room / "rates.json")


def as_markdown(document: dict[str, Any]) -> str:
    lines = [
        f"{document['cpu']}, {document['cores']} cores, --memory {document['memory']}",
        "",
        "| stage | layers | part | wall, s | floor, s | wall / floor | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, stage in document["stages"].items():
        if "error" in stage:
            lines.append(f"| {name} | {stage['layers']} | FAILED: {stage['error']} | | | | |")
            continue
        for number, row in enumerate(stage["rows"]):
            floor = max(row["floor_s"], stage["read_once_s"]) if number == 0 else row["floor_s"]
            ratio = f"{row['wall_s'] / floor:.2f}" if floor else ""
            peak = format_bytes(stage["peak_bytes"]) if number == 0 else ""
            times = f"{row['wall_s']:.1f} | {floor:.1f} | {ratio}"
            lines.append(f"| {name} | {stage['layers']} | {row['name']} | {times} | {peak} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--memory", default="8GiB")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--drop", type=int, default=8)
    parser.add_argument("--stages", default=",".join(STAGES), help="separated by commas")
    parser.add_argument("--room", type=Path)
    parser.add_argument("--write", action="store_true", help=f"keep the results in {RESULTS.name}")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    wanted = args.stages.split(",")
    if not set(wanted) <= set(STAGES):
        parser.error(f"--stages: choose among {', '.join(STAGES)}")
    room = args.room or Path(tempfile.mkdtemp(prefix="topovlm-large-"))
    try:
        prepare(room, args.layers)
        document = _document(room, args)
        for name in wanted:
            document["stages"][name] = stage = {"layers": args.layers, **run_stage(name, room, args)}
            said = stage.get("error") or ", ".join(f"{r['name']}: {r['wall_s']:.0f} s" for r in stage["rows"])
            print(f"{name}: {said}", file=sys.stderr)
    finally:
        if args.room is None:
            shutil.rmtree(room, ignore_errors=True)
    if args.write:
        if RESULTS.is_file():  # other stages stay: they may have run with another number of layers
            document["stages"] = json.loads(RESULTS.read_text())["stages"] | document["stages"]
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1) if args.json else as_markdown(document))
    most = parse_bytes(args.memory, "--memory")
    stages = document["stages"].values()
    return int(any("error" in stage or stage["peak_bytes"] > most for stage in stages))


def _document(room: Path, args: argparse.Namespace) -> dict[str, Any]:
    from topovlm.machine.environment import cpu_name, versions
    from topovlm.machine.host import usable_cores

    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "versions": versions(("torch", "transformers", "onnxruntime", "numpy")),
        "memory": args.memory,
        "samples": args.samples,
        "drop": args.drop,
        "rates": json.loads((room / "rates.json").read_text()),
        "stages": {},
    }


if __name__ == "__main__":
    sys.exit(main())
