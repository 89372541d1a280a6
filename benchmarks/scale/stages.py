"""One stage on a checkpoint, in a process of its own: `python -m benchmarks.scale.stages NAME ROOM ...`.

Prints JSON: the rows of `work.Row`, the peak of resident memory, and what the stage found.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.scale.rates import Rates
from benchmarks.scale.work import Row, watched
from topovlm.machine.host import memory_bound, resident_bytes
from topovlm.samples import Sample

_SIDES = (336, 672)  # height and width: two tiles and the whole picture
_ANSWER_TOKENS = 8
CANDIDATES = 8


@dataclass(frozen=True)
class Task:
    """`room`: holds dense/, and what stages hand on; `drop`: how many layers go."""

    room: Path
    rates: Rates
    samples: int
    drop: int

    @property
    def dense(self) -> Path:
        return self.room / "dense"

    @property
    def slim(self) -> Path:
        return self.room / "slim"

    @property
    def chosen(self) -> list[int]:
        found: list[int] = json.loads((self.room / "chosen.json").read_text())
        return found


Found = tuple[list[Row], dict[str, Any]]


def samples(count: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (*_SIDES, 3), np.uint8)) for _ in range(count)]
    return [
        Sample(id=f"{seed}-{number}", images=(picture,), prompt="What is on the left of the picture?")
        for number, picture in enumerate(pictures)
    ]


def _live(task: Task) -> Any:
    """The dense model as a deployment has it: in the type that the machine and the model ask for."""
    from topovlm.checkpoint.files import open_checkpoint
    from topovlm.pipeline.model import DenseModel

    return DenseModel(open_checkpoint(task.dense)).live


def score(task: Task) -> Found:
    from topovlm.choose.calibration import collect_states
    from topovlm.choose.costs import measure_costs
    from topovlm.choose.scorers import Settings
    from topovlm.choose.scoring import score_all

    live = _live(task)
    costs = measure_costs(live, samples(1, 4)[0])
    expected_s = task.samples * (costs.before_s + live.layers * costs.layer_s)
    with watched(f"states of {task.samples} samples", task.rates) as first:
        states = collect_states(live, samples(task.samples, 0))
    with watched("all scorers", task.rates) as second:
        scored = score_all(states, Settings(k=min(3, task.samples - 1)))
    orders = {name: list(result.order) for name, result in scored.items()}
    (task.room / "orders.json").write_text(json.dumps(orders))
    second.floor_s = second.wall_s  # no weights: seconds, whatever the model's size
    return [first, second], {"computed_in": str(live.dtype), "expected_s": expected_s}


def select(task: Task) -> Found:
    from topovlm.choose.judge import Judge

    live = _live(task)
    with watched(f"dense answers of {task.samples} samples, {_ANSWER_TOKENS} tokens", task.rates) as first:
        judge = Judge(live, samples(task.samples, 1), max_new_tokens=_ANSWER_TOKENS)
    sets = candidates(task, live.layers)
    with watched(f"{len(sets)} sets of {task.drop} layers", task.rates) as second:
        values = judge.kls(sets)
    best = min(range(len(sets)), key=values.__getitem__)
    (task.room / "chosen.json").write_text(json.dumps(sorted(sets[best])))
    naive = sum(live.layers - len(drop) for drop in sets)
    return [first, second], {"kl": values, "sets": [sorted(drop) for drop in sets], "naive_layers": naive}


def candidates(task: Task, layers: int) -> list[set[int]]:
    """What the scorers propose, then random sets, none with the first or the last layer."""
    orders: dict[str, list[int]] = json.loads((task.room / "orders.json").read_text())
    inner = range(1, layers - 1)
    rng, found = random.Random(0), list[set[int]]()
    for order in orders.values():
        found.append(set([layer for layer in order if layer in inner][: task.drop]))
    while len(found) < CANDIDATES:
        found.append(set(rng.sample(inner, task.drop)))
    return found[:CANDIDATES]


def prune(task: Task) -> Found:
    from topovlm.checkpoint.surgery import prune_checkpoint

    shutil.rmtree(task.slim, ignore_errors=True)
    with watched("files without the layers", task.rates) as row:
        prune_checkpoint(task.dense, task.slim, task.chosen)
    row.floor_s = _size(task.slim) * (1 / task.rates.disk_read + 1 / task.rates.disk_write)
    return [row], {"bytes": _size(task.slim)}


def repair(task: Task) -> Found:
    from topovlm.choose.repair.apply import repair_checkpoint

    live = _live(task)
    with watched("all cuts", task.rates) as row:
        record = repair_checkpoint(
            live, task.slim, task.chosen, samples(4, 2), samples(1, 3), max_new_tokens=_ANSWER_TOKENS
        )
    down = live.down_projection(0)
    for cut in record.cuts:
        _add_fit(row, task.rates, cut.tokens, down.in_features, down.out_features)
    touched = _size(task.slim) if record.kept else 0
    row.floor_s += touched * (1 / task.rates.disk_read + 1 / task.rates.disk_write)
    return [row], {"cuts": len(record.cuts), "kl_before": record.kl_before, "kl_after": record.kl_after}


def _add_fit(row: Row, rates: Rates, tokens: int, inner: int, outer: int) -> None:
    """Gram matrices of one cut, and its solutions in every strength."""
    from topovlm.choose.repair.strengths import LAMBDAS

    products = tokens * inner * inner + 2 * tokens * inner * outer
    products += len(LAMBDAS) * 2 * inner * inner * outer
    row.add_flops(products, rates.flops["float64"], "float64")
    row.add_flops(len(LAMBDAS) * inner**3 / 3, rates.factor_flops, "float64")


def verify(task: Task) -> Found:
    from topovlm.checkpoint.live import load
    from topovlm.checkpoint.verify import verify_checkpoint

    repaired = "## Repair" in (task.slim / "README.md").read_text()
    with watched("asked in float32", task.rates) as row:
        dense = None if repaired else load(task.dense)
        record = verify_checkpoint(task.slim, dense=dense, dropped=() if repaired else task.chosen)
    return [row], {
        "cache": record.cache_difference,
        "batch": record.batch_difference,
        "dense": record.dense_difference,
    }


def export(task: Task) -> Found:
    from topovlm.checkpoint.files import open_checkpoint
    from topovlm.checkpoint.sizes import Sizes
    from topovlm.exporters.onnx.export import export_onnx

    out = task.room / "onnx"
    shutil.rmtree(out, ignore_errors=True)
    with watched("fp16 graphs, checked against torch", task.rates) as row:
        record = export_onnx(task.slim, out, dtype="fp16", variants=("plain",))
    size = _size(out)
    row.floor_s += _size(task.slim) / task.rates.disk_read + size / task.rates.disk_write
    slim = open_checkpoint(task.slim)
    layers, head = Sizes.of(slim).layers, slim.facts.shape.decoder.head_params
    for result in record.parity:
        controls = (result.control_position_error, result.control_mask_error, result.control_picture_error)
        times = 1 + sum(value is not None for value in controls)
        through = layers * (result.prompt_tokens + result.decode_steps)
        answers = head * (result.compared_tokens + result.decode_steps)
        row.add_flops(2 * times * (through + answers), task.rates.flops["float32"], "float32")
    shutil.rmtree(out)
    return [row], {"bytes": size, "worst": max(result.max_logit_error for result in record.parity)}


STAGES: dict[str, Callable[[Task], Found]] = {
    "score": score,
    "select": select,
    "prune": prune,
    "verify": verify,
    "repair": repair,
    "export": export,
}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("room", type=Path)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--drop", type=int, required=True)
    args = parser.parse_args(argv)
    task = Task(args.room, Rates.load(args.room / "rates.json"), args.samples, args.drop)
    tempfile.tempdir = str(args.room)
    with memory_bound(args.memory_bytes):
        rows, found = STAGES[args.stage](task)
    answer = {"rows": [asdict(row) for row in rows], "peak_bytes": resident_bytes(peak=True), "found": found}
    (args.room / f"{args.stage}.json").write_text(json.dumps(answer, indent=1))


if __name__ == "__main__":
    sys.exit(main())
