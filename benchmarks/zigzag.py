"""The zigzag engine against other programs: `python -m benchmarks.zigzag`.

Default: 512 samples, 33 layers, k = 15, width 256, four kinds of trajectories. `--grid` runs samples 128,
512, 1,000 and 2,000 (`--sizes`: others), layers 13, 33 and 81, k 5 and 15. `--large` runs 10,000 samples
once. Times are medians of repeated runs, ours and a peer's in turn; a peer's time is its solver alone, ours
starts at the graphs; a ratio is the peer's time over ours on one thread. Compilation is not in any of them.
CPU seconds stand beside the wall time of one thread: on a busy machine they tell more. Every case runs in a
process of its own; memory is its peak beyond what it held before the barcode.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.zigzag_cases import KINDS, trajectory
from benchmarks.zigzag_peers import Peer, Problem, compiled_peer, dionysus_peer

SKELETONS = (2, 3)  # FastZigZag is often faster on the 3-skeleton, where H2 is killed


@dataclass(frozen=True)
class Case:
    kind: str
    samples: int
    layers: int
    k: int
    width: int = 256
    states: str = ""


@dataclass
class Row:
    """Measured seconds (medians; 0 where not run) and bytes of one case."""

    case: Case
    edges: float = 0.0
    bars: int = 0
    neighbours_s: float = 0.0
    one_thread_s: float = 0.0
    one_thread_cpu_s: float = 0.0
    all_threads_s: float = 0.0
    whole_path_s: float = 0.0
    memory_bytes: int = 0
    peers_s: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    agrees: dict[str, bool] = field(default_factory=dict)


def measure(case: Case, repeats: int, peers: list[Peer], peer_limit_s: float) -> Row:
    """One case in this process."""
    from tests.topology.strategies import as_layers

    from topovlm.topology.descriptors import mean_persistence
    from topovlm.topology.zigzag import layer_graphs, warm_up, zigzag_barcode

    warm_up()
    if case.states:
        clouds = np.load(case.states)
    else:
        clouds = trajectory(case.kind, case.samples, case.layers, case.width)
    row = Row(case)
    start = time.perf_counter()
    graphs = layer_graphs(clouds, case.k)
    row.neighbours_s = time.perf_counter() - start
    row.edges = sum(graph.edge_count for graph in graphs) / len(graphs)

    before = peak_bytes()
    start = time.perf_counter()
    barcode = zigzag_barcode(graphs)
    row.all_threads_s = time.perf_counter() - start
    row.memory_bytes = peak_bytes() - before
    row.bars = len(barcode.bars)
    ours = [(int(p), int(b), int(d)) for p, b, d in barcode.bars]

    single, busy, parallel, whole = [], [], [], []
    for _ in range(repeats):
        before_cpu = time.process_time()
        single.append(timed(lambda: zigzag_barcode(graphs, threads=1)))
        busy.append(time.process_time() - before_cpu)
        parallel.append(timed(lambda: zigzag_barcode(graphs)))
        whole.append(timed(lambda: mean_persistence(zigzag_barcode(clouds, case.k))))
    if repeats:
        row.one_thread_s, row.one_thread_cpu_s = median(single), median(busy)
        row.all_threads_s, row.whole_path_s = median(parallel), median(whole)

    problem = Problem.of(as_layers(graphs), SKELETONS) if peers else None
    for peer in peers:
        for skeleton in SKELETONS if peer.name == "FastZigZag" else SKELETONS[:1]:
            assert problem is not None
            theirs, ratios = [], []
            for _ in range(repeats):
                here = timed(lambda: zigzag_barcode(graphs, threads=1))
                seconds, bars = peer.solve(problem, skeleton)
                theirs.append(seconds)
                ratios.append(seconds / here)
                if seconds > peer_limit_s:
                    break
            name = f"{peer.name} (skeleton {skeleton})"
            row.peers_s[name], row.ratios[name] = median(theirs), median(ratios)
            row.agrees[name] = bars == ours
    return row


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _child(connection: Connection, case: Case, options: argparse.Namespace, limit_s: float) -> None:
    connection.send(measure(case, options.repeats, find_peers(options)[0], limit_s))


def in_own_process(case: Case, options: argparse.Namespace) -> Row:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(there, case, options, options.peer_limit))
    child.start()
    there.close()
    try:
        row: Row = here.recv()
        return row
    except EOFError:
        raise SystemExit(f"{case}: the process ended without a result") from None
    finally:
        child.join()


def find_peers(options: argparse.Namespace) -> tuple[list[Peer], list[str]]:
    """Peers that can run, and why the others cannot."""
    if options.no_peers:
        return [], ["peers: switched off (--no-peers)"]
    found = [
        dionysus_peer(),
        compiled_peer("FastZigZag", options.fastzigzag, options.include),
        compiled_peer("GUDHI", options.gudhi, options.include),
    ]
    return [p for p in found if isinstance(p, Peer)], [p for p in found if isinstance(p, str)]


def cases_of(options: argparse.Namespace) -> list[Case]:
    if options.states:
        layers, samples, width = np.load(options.states, mmap_mode="r").shape
        return [Case(options.states.stem, samples, layers, options.k, width, str(options.states))]
    if options.large:
        return [Case(options.kinds[0], 10_000, 33, 15)]
    if options.grid:
        sizes = [(n, layers, k) for n in options.sizes for layers in (13, 33, 81) for k in (5, 15)]
    else:
        sizes = [(options.samples, options.layers, options.k)]
    return [Case(kind, *size, width=options.width) for size in sizes for kind in options.kinds]


def line(row: Row) -> str:
    """One Markdown table row."""
    case = row.case
    peers = "; ".join(
        f"{name} {seconds:.2f} s, {row.ratios[name]:.1f}x, {'same bars' if row.agrees[name] else 'DIFFERENT'}"
        for name, seconds in row.peers_s.items()
    )
    size = f"| {case.kind} | {case.samples} | {case.layers} | {case.k} | {row.edges:.0f} | {row.bars} "
    topology = f"| {row.neighbours_s:.3f} | {row.one_thread_s:.4f} | {row.one_thread_cpu_s:.4f} "
    rest = f"| {row.all_threads_s:.4f} | {row.whole_path_s:.3f} | {row.memory_bytes / 2**20:.0f} "
    return f"{size}{topology}{rest}| {peers or '-'} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--layers", type=int, default=33)
    parser.add_argument("--k", type=int, default=15)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--states", type=Path, help=".npy file [layers, samples, width] instead")
    parser.add_argument("--grid", action="store_true", help="all sizes, layers and k")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 1000, 2000], help="of the grid")
    parser.add_argument("--large", action="store_true", help="10,000 samples, no peers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peer-limit", type=float, default=20.0, help="seconds; a slower peer runs once")
    parser.add_argument("--fastzigzag", type=Path, help="checkout of FastZigZag")
    parser.add_argument("--gudhi", type=Path, help="checkout of GUDHI")
    parser.add_argument(
        "--include", type=Path, nargs="*", default=[], help="folders for the compiler (Boost)"
    )
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    options.no_peers = options.no_peers or options.large
    options.repeats = 0 if options.large else options.repeats

    from topovlm.machine.host import usable_cores
    from topovlm.topology.zigzag import warm_up

    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": usable_cores(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numba": version("numba"),
        "warm_up_s": round(warm_up(), 3),
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    for reason in find_peers(options)[1]:
        print(f"skipped: {reason}")
    titles = ["kind", "N", "L", "k", "edges", "bars", "kNN s", "1 thread s", "its CPU s", "all s", "whole s"]
    titles += ["MiB", "peers"]
    print(f"\n| {' | '.join(titles)} |")
    print("|" + "---|" * len(titles))
    rows = []
    for case in cases_of(options):
        rows.append(in_own_process(case, options))
        print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1)
        )
    if not all(all(row.agrees.values()) for row in rows):
        raise SystemExit("a peer's barcode differs")


if __name__ == "__main__":
    main()
