"""Which public benchmarks a run asks (`--bench`): read, drawn and checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topovlm.config import Config
from topovlm.errors import InputError, explain
from topovlm.pipeline.data_split import samples_digest
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.evaluation.evaluate import Asks
    from topovlm.tasks.public.task import PublicTask

_EVERY = 10**9  # questions


@dataclass(frozen=True)
class Bench:
    """A benchmark and the questions of it that are asked, their pictures decoded once."""

    task: PublicTask
    samples: tuple[Sample, ...]

    @property
    def digest(self) -> str:
        return samples_digest(self.samples)


def open_benches(config: Config) -> tuple[Bench, ...]:
    """Those of `--bench`. Raises `InputError` naming what is missing, broken or asks for videos."""
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


def check_asked(benches: Sequence[Bench], prompters: Sequence[Asks]) -> None:
    """Raises `InputError` for a question that a model cannot be asked, before any is."""
    from topovlm.evaluation.evaluate import check_prompts

    for bench in benches:
        for prompter in prompters:
            check_prompts(prompter, bench.task, bench.samples, bench.task.answer_tokens)
