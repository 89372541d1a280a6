"""What judging many sets of layers costs, against one pass over the weights and against one set at a time:

    python -m benchmarks.judging [--layers 24] [--drop 6] [--sets 64] [--room DIR] [--write] [--json]

A random model of Llama-3-8B's width whose weights stay in their files, not cached when a pass begins. The
sets are what a round of the search asks: a set with one layer exchanged for another. `reading`: a prompt of
few words, where bringing the weights takes the time; `computing`: a prompt with a picture, of which the runs
of layers are counted, and timed against those of one set. `--write` keeps the table in
benchmarks/data/judging.json.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "data" / "judging.json"


def neighbours(layers: int, drop: int, count: int, seed: int = 0) -> list[frozenset[int]]:
    """One set and those that differ from it by a swap, as a search asks them: first and last layer stay."""
    rng, inner = random.Random(seed), range(1, layers - 1)
    start = frozenset(rng.sample(inner, drop))
    swaps = [start - {out} | {into} for out in sorted(start) for into in inner if into not in start]
    rng.shuffle(swaps)
    return [start, *swaps][:count]


def measure(folder: Path, sets: Sequence[frozenset[int]], *, picture: bool) -> dict[str, Any]:
    """Seconds of one pass of the dense model, of one set, and of all sets together; runs of layers."""
    from benchmarks.scale.rates import forget_cached
    from benchmarks.scale.stages import samples
    from topovlm.checkpoint.live import collate, encode, load
    from topovlm.choose.sweep import Variant, enter, sweep
    from topovlm.samples import Sample

    live = load(folder, dtype="bfloat16", mapped=True)
    sample = samples(1, 0)[0] if picture else Sample(id="words", images=(), prompt="What is this?")
    with live.ends(head=False):
        batch = enter(live, collate(live, [encode(live, sample)]))
    ran = 0

    def count(*_: object) -> None:
        nonlocal ran
        ran += 1

    for block in live.blocks:
        block.register_forward_hook(count)

    def timed(variants: Sequence[Variant]) -> tuple[float, int]:
        nonlocal ran
        for file in folder.glob("*.safetensors"):
            forget_cached(file)
        ran, began = 0, time.perf_counter()
        sweep(live, [batch], variants)
        return time.perf_counter() - began, ran

    timed([Variant()])  # warm-up
    one_pass_s, _ = timed([Variant()])
    one_set_s, alone = timed([Variant(sets[0])])
    all_s, together = timed([Variant(one) for one in sets])
    return {
        "tokens": batch.stream.shape[1],
        "one_pass_s": one_pass_s,
        "one_set_s": one_set_s,
        "all_sets_s": all_s,
        "over_one_pass": all_s / one_pass_s,
        "layer_runs": together,
        "naive_layer_runs": alone * len(sets),
        "share_of_naive_runs": together / (alone * len(sets)),
        "share_of_naive_time": all_s / (one_set_s * len(sets)),
    }


def as_markdown(document: dict[str, Any]) -> str:
    lines = [
        f"{document['sets']} sets of {document['drop']} of {document['layers']} layers, {document['cpu']}",
        "",
        "| | tokens | one pass, s | all sets, s | over one pass | of naive layer runs | of naive time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("reading", "computing"):
        row = document[name]
        shares = f"{row['share_of_naive_runs']:.2f} | {row['share_of_naive_time']:.2f}"
        lines.append(
            f"| {name} | {row['tokens']} | {row['one_pass_s']:.1f} | {row['all_sets_s']:.1f} | "
            f"{row['over_one_pass']:.2f} | {shares} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--drop", type=int, default=6)
    parser.add_argument("--sets", type=int, default=64)
    parser.add_argument("--room", type=Path, help="work there, and take the model that an earlier call left")
    parser.add_argument("--write", action="store_true", help=f"keep the results in {RESULTS.name}")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    from benchmarks.large import prepare
    from topovlm.machine.environment import cpu_name
    from topovlm.machine.host import usable_cores

    room = args.room or Path(tempfile.mkdtemp(prefix="topovlm-judging-"))
    try:
        prepare(room, args.layers)
        sets = neighbours(args.layers, args.drop, args.sets)
        document: dict[str, Any] = {
            "layers": args.layers,
            "drop": args.drop,
            "sets": len(sets),
            "cpu": f"{cpu_name()}, {usable_cores()} cores",
        }
        for name in ("reading", "computing"):
            document[name] = measure(room / "dense", sets, picture=name == "computing")
    finally:
        if args.room is None:
            shutil.rmtree(room, ignore_errors=True)
    if args.write:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1) if args.json else as_markdown(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
