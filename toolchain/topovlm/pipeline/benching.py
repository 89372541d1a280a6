"""Public benchmarks answered by exported folders, and their part of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.config import Config
from topovlm.console import Progress
from topovlm.pipeline.benches import Bench
from topovlm.pipeline.measuring import answer
from topovlm.pipeline.record import Benched
from topovlm.workers.pool import HERE, Pool

if TYPE_CHECKING:
    from topovlm.evaluation.evaluate import Outcome
    from topovlm.exporters.protocol import ExportRecord
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.rundir import Record
    from topovlm.pipeline.stage import Stage
    from topovlm.report import document as doc


def answered(
    bench: Bench, folder: Path, config: Config, progress: Progress, *, kept: Path | None, pool: Pool = HERE
) -> list[Outcome]:
    """What one exported folder says to all of it; answers are kept as they come."""
    return answer(
        folder,
        bench.task,
        bench.samples,
        config.threads_here,
        progress=progress,
        pool=pool,
        kept=kept,
    )


def stage_answers(
    context: Context, stage: Stage[Benched], folder: str, exported: Record[ExportRecord]
) -> Record[Benched] | None:
    """The stage that answers all benchmarks with one exported folder; None where none is asked for."""
    if not context.benches:
        context.run.forget(stage.name)
        return None

    def make(work: Path, progress: Progress) -> Benched:
        total = sum(len(bench.samples) for bench in context.benches)
        done = 0

        def beyond(some: int, _: int) -> None:
            progress(done + some, total)

        root, kept, found = context.run.root / folder, context.run.shards, []
        for bench in context.benches:
            said = answered(bench, root, context.config, beyond, kept=kept, pool=context.pool)
            found.append(tuple(said))
            done += len(bench.samples)
        return Benched(outcomes=tuple(found))

    return context.run.stage(stage, stage.key(context, graphs=exported.outputs), make)


def benchmark_part(
    bench: Bench, dense: Sequence[Outcome], slim: Sequence[Outcome] | None, source: str, seed: int
) -> doc.Benchmark:
    """The report's part from the outcomes of one model, or of two."""
    from topovlm.report.document import Benchmark
    from topovlm.report.sections import accuracy_section
    from topovlm.tasks.public.table import LMMS_EVAL, differences

    task = bench.task
    return Benchmark(
        name=task.name,
        title=task.record.title,
        protocol=task.protocol,
        licence=task.licence,
        asked=len(bench.samples),
        available=len(task.dataset.items),
        answer_tokens=task.answer_tokens,
        differences=differences(task.record) if task.protocol == LMMS_EVAL else (),
        accuracy=accuracy_section(
            dense, slim, source=source, sample_source=bench.source, task=task.name, seed=seed
        ),
    )
