"""Deploy every combination, keep a row of each, and write sweep.json and sweep.md as they come.

With workers, deployments whose figures are predicted run there, several at once. All of them have ended, and
the workers are given back, before a deployment begins that times its target: that one runs here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm import artifacts, records
from topovlm.config import Config
from topovlm.console import Display, library_chatter
from topovlm.errors import InputError, TopovlmError, explain
from topovlm.failures import failure
from topovlm.machine.environment import cpu_name
from topovlm.pipeline import lock
from topovlm.pipeline.data import Data
from topovlm.pipeline.precision import measured_on_target, precision
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import Source, find_model
from topovlm.pipeline.stages import all_stages
from topovlm.pipeline.target import resolve_target
from topovlm.predict.target import LOCAL
from topovlm.sweeps.record import SWEEP_FILE, SWEEP_TABLE, Row, Sweep, failed_row
from topovlm.sweeps.table import cells, markdown
from topovlm.sweeps.task import DeployTask, deployed, inputs_of
from topovlm.version import __version__
from topovlm.workers.address import parse_address

if TYPE_CHECKING:
    from topovlm.sweeps.combinations import Combination
    from topovlm.workers.ray_cluster import RayCluster

_HIDDEN = ".sweep"  # marks the directory as a sweep's; its lock and logs


def sweep(asked: Sequence[Combination], argv: Sequence[str], display: Display) -> Sweep:
    """Every combination's row, in order.

    Raises `InputError` for what concerns all, before anything is written; `MissingToolError` where there are
    no workers, or none any more.
    """
    began, root = time.perf_counter(), asked[0].config.output.parent
    _check_directory(root)
    models = _checked(asked)
    cluster = _cluster(asked[0].config)
    away = [number for number, one in enumerate(asked) if cluster and not _is_timed(one.config)]
    here = [number for number in range(len(asked)) if number not in away]
    threads = _torch_threads()
    tasks = _tasks(asked, away, models, threads)
    with _held(root):
        kept = _Kept(root, tuple(argv), len(asked), began)
        kept.write()
        if cluster and tasks:
            display.note(f"{len(away)} of {len(asked)} combinations go to {cluster.address.text}")
            with library_chatter(root / _HIDDEN / "libraries.log"):
                for number, row in _on_workers(cluster, asked, tasks):
                    kept.keep(number, row, display)
        for number in here:
            display.note(f"{asked[number].name} ({number + 1} of {len(asked)})")
            row = deployed(asked[number], display, _lenders(asked, number), threads, _log(asked[number]))
            kept.keep(number, row, display)
    return kept.record()


@dataclass
class _Kept:
    """Rows so far, on the disk after each."""

    root: Path
    argv: tuple[str, ...]
    count: int
    began: float

    def __post_init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self._cpus = {cpu_name()}

    def keep(self, number: int, row: Row, display: Display) -> None:
        self.rows[number] = row
        self.write()
        text = row.ended.message if row.ended else ", ".join(cells(row)[3:-1])
        display.note(f"{row.run}: {text}")
        if row.cpu not in self._cpus:
            self._cpus.add(row.cpu)
            display.note(f"note: {row.node} has another processor ({row.cpu}): last digits may differ")

    def record(self) -> Sweep:
        return Sweep(
            topovlm=__version__,
            argv=self.argv,
            output=str(self.root),
            combinations=self.count,
            rows=tuple(self.rows[number] for number in sorted(self.rows)),
            wall_s=round(time.perf_counter() - self.began, 3),
        )

    def write(self) -> None:
        found = self.record()
        records.write(self.root / SWEEP_FILE, found)
        artifacts.write_text(self.root / SWEEP_TABLE, markdown(found))


def _check_directory(root: Path) -> None:
    """Raise `InputError` for a file, a run directory, or one that holds what no sweep made."""
    artifacts.check_output(root)
    if root.is_dir() and not (root / _HIDDEN).is_dir() and any(root.iterdir()):
        rule = "is not empty and is no directory of a sweep"
        raise InputError(explain("--output", str(root), rule, "Choose a new or empty one with -o"))


@contextlib.contextmanager
def _held(root: Path) -> Iterator[None]:
    """Two sweeps in one directory would write one table."""
    hidden = root / _HIDDEN
    with artifacts.plain_disk_errors(root):
        hidden.mkdir(parents=True, exist_ok=True)
    with lock.held(hidden, root):
        yield


def _checked(asked: Sequence[Combination]) -> dict[str, Source]:
    """The models, by name. Raises `InputError` for what no combination, or none of a model's, could do."""
    from topovlm.choose.scorers import find_scorer

    first = asked[0].config
    find_scorer(first.scorer)
    data = Data(first)
    if data.is_own:
        data.check()
    for one in asked:
        RunDir(one.config.output, Display(quiet=True), all_stages()).check()
        if one.config.device == LOCAL or one.config.target is not None:
            precision(one.config, resolve_target(replace(one.config, device=LOCAL)))
    return {name: find_model(name) for name in dict.fromkeys(one.config.model for one in asked)}


def _cluster(config: Config) -> RayCluster | None:
    if config.workers is None:
        return None
    from topovlm.workers.ray_cluster import RayCluster

    return RayCluster(parse_address(config.workers))


def _is_timed(config: Config) -> bool:
    """Whether it times the target itself, which nothing may disturb."""
    return config.device != LOCAL or measured_on_target(config, resolve_target(config))


def _torch_threads() -> int:
    from topovlm.checkpoint.live import usual_threads

    return usual_threads()


def _lenders(asked: Sequence[Combination], number: int) -> tuple[Path, ...]:
    """Run directories of the same model: what does not depend on target or budget is computed once."""
    model = asked[number].config.model
    return tuple(one.config.output for one in asked if one.config.model == model and one is not asked[number])


def _spread(asked: Sequence[Combination], numbers: Sequence[int]) -> list[int]:
    """First one of each model, then the second of each: those that come later find what is shared."""
    seen: dict[str, int] = {}
    turn = {}
    for number in numbers:
        model = asked[number].config.model
        turn[number] = seen[model] = seen.get(model, -1) + 1
    return sorted(numbers, key=lambda number: (turn[number], number))


def _log(one: Combination) -> Path:
    return one.config.output.parent / _HIDDEN / f"{one.name}.log"


def _tasks(
    asked: Sequence[Combination], numbers: Sequence[int], models: Mapping[str, Source], threads: int
) -> dict[int, DeployTask]:
    """By number, in the order in which they begin. What a model and the data are is looked at once here."""
    if not numbers:
        return {}
    import torch

    from topovlm.checkpoint.live import computes_on_one_thread

    configs = {asked[number].config.model: asked[number].config for number in numbers}
    data = inputs_of(asked[0].config, ["--data"])
    found = {name: inputs_of(config, ["--model"]) for name, config in configs.items()}
    tasks = {}
    for number in _spread(asked, numbers):
        one, config = asked[number], asked[number].config
        small = computes_on_one_thread(models[config.model].checkpoint.parameters)
        tasks[number] = DeployTask(
            combination=replace(one, config=replace(config, workers=None)),
            lenders=_lenders(asked, number),
            folder=Path.cwd(),
            threads=threads,
            cpus=max(config.threads_here, 1 if small else threads),
            gpus=int(torch.cuda.is_available()),
            inputs={**data, **found[config.model], **inputs_of(config, ["--target"])},
            log=_log(one),
        )
    return tasks


def _lost(one: Combination, error: TopovlmError, began: float) -> Row:
    """A task that was refused by its worker, or whose workers died again and again."""
    return failed_row(one, failure(error), time.perf_counter() - began)


def _on_workers(
    cluster: RayCluster, asked: Sequence[Combination], tasks: dict[int, DeployTask]
) -> Generator[tuple[int, Row]]:
    """Rows as they come. At the end, however it comes, the workers are given back."""
    from topovlm.workers.tasks import run_tasks

    numbers, began = list(tasks), time.perf_counter()
    try:
        with contextlib.closing(run_tasks(cluster, list(tasks.values()))) as ended:
            for place, found in ended:
                number = numbers[place]
                if isinstance(found, TopovlmError):
                    yield number, _lost(asked[number], found, began)
                else:
                    yield number, found
    finally:
        cluster.release()
