"""Other programs that compute zigzag barcodes, run on the same layers where they are present.

dionysus: importable, or not. FastZigZag and GUDHI: a checkout named by the user, compiled into a scratch
folder; FastZigZag's licence forbids redistribution, so nothing of it is kept here.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.topology.zigzag_oracles import Bars, Layer, zigzag_times

DRIVER = Path(__file__).parent / "peers" / "zigzag_driver.cpp"
FLAGS = ("-O3", "-DNDEBUG", "-std=c++17")


@dataclass(frozen=True)
class Problem:
    """A sequence of layers as streams of simplices, by dimension of the skeleton; built outside the clock."""

    layers: list[Layer]
    streams: dict[int, tuple[list[tuple[int, ...]], list[list[float]]]]

    @classmethod
    def of(cls, layers: list[Layer], skeletons: tuple[int, ...]) -> Problem:
        return cls(layers, {dim: zigzag_times(layers, dim - 1) for dim in skeletons})

    @property
    def end(self) -> int:
        return 2 * len(self.layers) - 1


@dataclass(frozen=True)
class Peer:
    """A solver: problem and skeleton dimension -> solver seconds and bars of dimensions 0 and 1."""

    name: str
    solve: Callable[[Problem, int], tuple[float, Bars]]


def dionysus_peer() -> Peer | str:
    """dionysus' fast zigzag with clearing, or the reason why it is not here."""
    if importlib.util.find_spec("dionysus") is None:
        return "dionysus: not installed (source only, needs a C++ compiler)"

    def solve(problem: Problem, skeleton: int) -> tuple[float, Bars]:
        import dionysus

        simplices, times = problem.streams[skeleton]
        filtration = dionysus.Filtration([list(simplex) for simplex in simplices])
        start = time.perf_counter()
        cone = dionysus.fast_zigzag(filtration, times)
        reduced = dionysus.homology_persistence(cone, method="clearing")
        diagrams = dionysus.init_zigzag_diagrams(reduced, cone)
        seconds = time.perf_counter() - start
        bars = [
            (dim, int(point.birth), int(min(point.death, problem.end)))
            for dim, kinds in enumerate(diagrams[:2])
            for diagram in kinds.values()
            for point in diagram
        ]
        return seconds, sorted(bar for bar in bars if bar[1] < bar[2])

    return Peer("dionysus", solve)


def compiled_peer(name: str, source: Path | None, include: list[Path]) -> Peer | str:
    """FastZigZag or GUDHI from a checkout, or the reason why it is not here."""
    option = f"--{name.lower()}"
    if source is None:
        return f"{name}: no checkout given ({option} DIR)"
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return f"{name}: no C++ compiler"
    if name == "FastZigZag":
        inputs, folders = [source / "fzz.cpp"], [source, source / "pyfzz" / "phat-include"]
    else:
        inputs, folders = [], sorted(source.glob("src/*/include"))
    program = Path(tempfile.mkdtemp(prefix="zigzag-peer-")) / name
    paths = [f"-I{folder}" for folder in [*folders, *include]]
    command = [compiler, *FLAGS, f"-D{name.upper()}", *paths, DRIVER, *inputs, "-o", program]
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if built.returncode:
        return f"{name}: does not compile: {built.stderr.strip().splitlines()[-1]}"

    def solve(problem: Problem, skeleton: int) -> tuple[float, Bars]:
        text = _operations(*problem.streams[skeleton])
        output = subprocess.run([str(program)], input=text, capture_output=True, text=True, check=True).stdout
        first, *rows = output.splitlines()
        bars = []
        for row in rows:
            dim, birth, death = map(int, row.split())
            bars.append((dim, birth, problem.end if death < 0 else death))
        return float(first), sorted(bar for bar in bars if bar[0] <= 1 and bar[1] < bar[2])

    return Peer(name, solve)


def _operations(simplices: list[tuple[int, ...]], times: list[list[float]]) -> str:
    """The stream as text: at every index first deletions, cofaces first, then insertions, faces first."""
    events = [
        (int(at), turn % 2 == 0, len(simplex) if turn % 2 == 0 else -len(simplex), simplex)
        for simplex, changes in zip(simplices, times, strict=True)
        for turn, at in enumerate(changes)
    ]
    return "".join(
        f"{'i' if insertion else 'd'} {at} {' '.join(map(str, simplex))}\n"
        for at, insertion, _, simplex in sorted(events)
    )
