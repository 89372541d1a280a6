"""Which public benchmarks a run asks (`--bench`): read, drawn and checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topovlm.config import Config
from topovlm.errors import InputError, explain, located
from topovlm.pipeline.data_split import samples_digest
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.tasks.public.task import PublicTask

Check = Callable[[Sample, int], None]  # refuses a question with an answer of so many tokens
_EVERY = 10**9  # questions


@dataclass(frozen=True)
class Bench:
    """A benchmark and the questions of it that are asked, their pictures and clips decoded once.

    `refused`: questions that the model cannot be asked, each with the reason.
    """

    task: PublicTask
    samples: tuple[Sample, ...]
    refused: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """For the report: where the questions come from, and which of them were not asked."""
        if not self.refused:
            return self.task.source
        return f"{self.task.source}; {len(self.refused)} cannot be asked, the first: {self.refused[0]}"

    @property
    def digest(self) -> str:
        return samples_digest(self.samples)


def open_benches(config: Config) -> tuple[Bench, ...]:
    """Those of `--bench`. Raises `InputError` naming what is missing or broken."""
    from topovlm.evaluation.evaluate import check_samples
    from topovlm.tasks import open_task
    from topovlm.tasks.public.task import PublicTask

    if config.bench is None:
        for flag, value in (("--bench-data", config.bench_data), ("--limit", config.limit)):
            if value is not None:
                raise InputError(explain(flag, str(value), "is about the benchmarks of --bench", "Name some"))
        return ()
    found = []
    for name in config.bench:
        task = open_task(name, config.bench_data)
        assert isinstance(task, PublicTask)
        samples = task.samples("all", config.limit or _EVERY, config.seed)
        check_samples(task, samples)
        found.append(Bench(task, tuple(samples)))
    return tuple(found)


def askable(benches: Sequence[Bench], check: Check) -> tuple[Bench, ...]:
    """The same without the questions that `check` refuses: prompts longer than the model's context, pictures
    that it does not take. Raises `InputError` naming a benchmark that has no other question."""
    return tuple(_askable(bench, check) for bench in benches)


def _askable(bench: Bench, check: Check) -> Bench:
    refused: dict[str, InputError] = {}
    for sample in bench.samples:
        try:
            check(sample, bench.task.answer_tokens)
        except InputError as error:
            refused[sample.id] = error
    lost = {one.group if bench.task.record.circular else one.id for one in bench.samples if one.id in refused}
    kept = [one for one in bench.samples if not lost & {one.id, one.group}]
    if not kept:
        raise InputError(located(next(iter(refused.values())), f"--bench {bench.task.name}"))
    reasons = tuple(f"{name}: {error.rule}" for name, error in refused.items())
    return Bench(bench.task, tuple(kept), reasons)
