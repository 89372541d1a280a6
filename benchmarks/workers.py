"""Deployments of the reference model with workers, against the one without:

    python -m benchmarks.workers [--only same,killed,resumed,speed] [--pairs 3] [--questions 384] [--write]

Two nodes of a Ray cluster on this machine, a CPU each, `--threads 1` everywhere. `same`: the report's
content hash with workers is the one without. `killed`: also where a worker is killed (SIGKILL) in the middle
of a shard of `evaluate-dense`. `resumed`: also where the driver is killed and the command repeated; shards
that were done are not done again. `speed`: the same evaluation shards on one worker and on two, in turns.
Exit code 1 when a hash differs. `--write` keeps the figures in benchmarks/data/workers.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from topovlm.machine.environment import cpu_name
from topovlm.machine.host import usable_cores

RESULTS = Path(__file__).resolve().parent / "data" / "workers.json"
PARTS = ("same", "killed", "resumed", "speed")
_DEPLOY = ["deploy", "--target", "jetson-orin", "--sparsity", "25%", "--samples", "48", "--repair", "off"]
_DEPLOY += ["--eval-samples", "320", "--measure-time", "1s", "--threads", "1", "--json"]
_SHARD = 64


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """The address of a Ray of so many nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    # The class writes a cluster's address where Ray lies by default, and that folder may not be there.
    os.environ["RAY_TMPDIR"] = folder
    (Path(folder) / "ray").mkdir()
    few = {"num_cpus": 1, "object_store_memory": 100 << 20}
    head = {**few, "include_dashboard": False, "temp_dir": folder}
    made = Cluster(initialize_head=True, connect=False, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            made.add_node(**few)
        yield f"ray://{made.address}"
    finally:
        made.shutdown()
        del os.environ["RAY_TMPDIR"]
        shutil.rmtree(folder, ignore_errors=True)


def begin(out: Path, workers: str | None) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "topovlm", *_DEPLOY, "-o", str(out)]
    words += ["--workers", workers] if workers else []
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], out: Path) -> dict[str, Any]:
    """Content hash and seconds by stage."""
    printed, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"a deployment left with {process.returncode}:\n{said}")
    stages = json.loads((out / "run.json").read_text())["stages"]
    seconds = {name: round(facts["seconds"], 1) for name, facts in stages.items() if not facts["cached"]}
    return {"content_hash": json.loads(printed)["content_hash"], "stages_s": seconds}


def shards_of(out: Path) -> int:
    folder = out / ".topovlm" / "shards"
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def evaluating(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait for the first shard of the first evaluation to be done."""
    measured = out / ".topovlm" / "stages" / "measure.json"
    while process.poll() is None and not (measured.is_file() and shards_of(out)):
        time.sleep(0.02)


def workers_at_work() -> list[int]:
    """Processes that run a shard now, by the name that Ray gives them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::_perform"):
                found.append(int(path.parent.name))
    return found


def killed_worker(room: Path, workers: str) -> dict[str, Any]:
    out = room / "killed"
    process = begin(out, workers)
    evaluating(out, process)
    victims = workers_at_work()[:1]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    return {**ended(process, out), "workers_killed": len(victims)}


def killed_driver(room: Path, workers: str) -> dict[str, Any]:
    out = room / "resumed"
    process = begin(out, workers)
    evaluating(out, process)
    process.kill()
    process.communicate()
    done = shards_of(out)
    return {**ended(begin(out, workers), out), "shards_done_before": done}


def speed(pairs: int, questions: int, room: Path) -> dict[str, Any]:
    """Wall time of the same shards on one worker and on two, in turns."""
    from topovlm.artifacts import sha256_tree
    from topovlm.evaluation.shards import AnswerJob, ExportedFolder
    from topovlm.exporters.onnx.export import export_onnx
    from topovlm.pipeline.sources import model_folder
    from topovlm.tasks import open_task
    from topovlm.workers.jobs import Shard
    from topovlm.workers.pool import HERE, open_pool, released

    folder = room / "graphs"
    export_onnx(Path(model_folder("reference")), folder)
    job = AnswerJob(ExportedFolder(folder, sha256_tree(folder), 1), 32)
    samples = open_task(None, None).samples("test", questions, 0)
    shards = [Shard(tuple(samples[start : start + _SHARD])) for start in range(0, questions, _SHARD)]
    alone, seconds = HERE.run(job, shards), {1: [], 2: []}  # type: ignore[var-annotated]
    with cluster(1) as one, cluster(2) as two:
        for _ in range(pairs):
            for count, address in ((1, one), (2, two)):
                with released(open_pool(address)) as pool:
                    pool.run(job, shards[:4])  # processes start, graphs are opened
                    began = time.perf_counter()
                    found = pool.run(job, shards)
                    seconds[count].append(round(time.perf_counter() - began, 3))
                    if found != alone:
                        raise SystemExit("answers differ from those of this process")
    ratios = [round(a / b, 3) for a, b in zip(seconds[1], seconds[2], strict=True)]
    return {
        "questions": questions,
        "shards": len(shards),
        "one_worker_s": seconds[1],
        "two_workers_s": seconds[2],
        "ratios": ratios,
        "speed_up": statistics.median(ratios),
        "load_1min": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--questions", type=int, default=384)
    parser.add_argument("--write", action="store_true", help="keep the figures")
    args = parser.parse_args()
    parts = [part for part in args.only.split(",") if part]
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if args.write and RESULTS.is_file() else {}
    found["machine"] = {"cpu": cpu_name(), "cores": usable_cores(), "ray": metadata.version("ray")}
    with tempfile.TemporaryDirectory(prefix="topovlm-workers-") as scratch:
        room = Path(scratch)
        if set(parts) - {"speed"}:
            found["alone"] = ended(begin(room / "alone", None), room / "alone")
            with cluster(2) as address:
                if "same" in parts:
                    found["same"] = ended(begin(room / "same", address), room / "same")
                if "killed" in parts:
                    found["killed"] = killed_worker(room, address)
                if "resumed" in parts:
                    found["resumed"] = killed_driver(room, address)
        if "speed" in parts:
            found["speed"] = speed(args.pairs, args.questions, room)
    if args.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    hashes = {found[name]["content_hash"] for name in ("alone", *PARTS[:3]) if name in found}
    print(f"content hashes: {len(hashes) or 'none asked for'}")
    return int(len(hashes) > 1)


if __name__ == "__main__":
    sys.exit(main())
