"""Accuracy of exported folders, dense and slim, on this machine; latency on it or on the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.config import Config
from topovlm.console import Progress
from topovlm.errors import VerificationError, explain
from topovlm.pipeline.attempts import DENSE, SLIM
from topovlm.pipeline.constants import CONSTANTS, Constants
from topovlm.pipeline.question import workload_of
from topovlm.pipeline.record import Attempt, Evaluated
from topovlm.pipeline.stages import (
    BASELINE,
    DEPLOYED,
    EXPORT,
    EXPORT_DENSE,
    MEASURE,
    PROFILE,
    rejected,
)
from topovlm.workers.pool import HERE, Pool
from topovlm.workload import Workload

if TYPE_CHECKING:
    from topovlm.choose.record import Scores
    from topovlm.evaluation.evaluate import Outcome
    from topovlm.evaluation.task import Task
    from topovlm.exporters.protocol import ExportRecord
    from topovlm.measure.protocol import Device
    from topovlm.measure.settings import RoundProgress, TimingRules
    from topovlm.measure.timing import Comparison, EngineTimings
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.rundir import Record
    from topovlm.pipeline.stage import Stage
    from topovlm.samples import Sample


def evaluate(
    context: Context, stage: Stage[Evaluated], folder: str, exported: Record[ExportRecord]
) -> Record[Evaluated]:
    """Answer the held-out questions with one exported folder."""

    def make(work: Path, progress: Progress) -> Evaluated:
        samples = context.data.held_out()
        if not samples:
            return Evaluated(outcomes=())
        root, config = context.run.root, context.config
        found = answer(
            root / folder,
            context.data.task,
            samples,
            config.threads_here,
            progress=progress,
            constants=context.constants,
            pool=context.pool,
        )
        return Evaluated(outcomes=tuple(found))

    return context.run.stage(
        stage, stage.key(context, task=context.data.task.name, graphs=exported.outputs), make
    )


def answer(
    folder: Path,
    task: Task,
    samples: Sequence[Sample],
    threads: int,
    *,
    progress: Progress,
    constants: Constants = CONSTANTS,
    pool: Pool = HERE,
    kept: Path | None = None,
) -> list[Outcome]:
    """Answer a task's questions with an exported folder and score them.

    `pool`: where; `kept`: a folder that answers are kept in as they come, and taken from.
    """
    from topovlm.evaluation.shards import answer_in_shards
    from topovlm.evaluation.task import answer_tokens

    return answer_in_shards(
        pool,
        folder,
        task,
        samples,
        threads=threads,
        new_tokens=answer_tokens(task, constants.answer_tokens),
        size=constants.pictures_at_once,
        progress=progress,
        kept=kept,
    )


def measure(context: Context, *, slim: bool) -> Record[Comparison]:
    """Latency and memory of the dense graphs and, with `slim`, of the slim ones in turns with them."""
    folders = {DENSE: BASELINE, **({SLIM: DEPLOYED} if slim else {})}
    exported = {DENSE: EXPORT_DENSE, SLIM: EXPORT}
    graphs = {name: context.run.records[exported[name].name].outputs for name in folders}

    def make(work: Path, progress: Progress) -> Comparison:
        context.dense.release()  # what is measured should have the machine's memory to itself
        context.pool.release()
        paths = {name: context.run.root / path for name, path in folders.items()}
        with context.device() as device:
            return time_folders(context.config, paths, progress, device=device, constants=context.constants)

    return context.run.stage(MEASURE, MEASURE.key(context, graphs=graphs), make)


def earlier_attempt(context: Context, keep: int, scored: Record[Scores]) -> Attempt | None:
    """The verdict of an earlier attempt with as many layers that missed the budget, if there was one."""
    stage = rejected(keep)
    record = context.run.valid(stage, _attempt_key(context, stage, keep, scored))
    return None if record is None else record.value


def reject(context: Context, keep: int, scored: Record[Scores], attempt: Attempt) -> None:
    """Remember that so many layers are too many: a resumed run need not try again."""
    stage = rejected(keep)
    context.run.stage(stage, _attempt_key(context, stage, keep, scored), lambda work, progress: attempt)
    del context.run.records[stage.name]  # a memory of this directory, no part of what the report describes


def _attempt_key(
    context: Context, stage: Stage[Attempt], keep: int, scored: Record[Scores]
) -> dict[str, object]:
    profiled = context.run.result(PROFILE)
    return stage.key(
        context, keep=keep, scores=scored.digest, profile=None if profiled is None else profiled.digest
    )


def timed_tokens(config: Config, constants: Constants = CONSTANTS) -> int:
    """Generated tokens of a timing run: the workload's own when it asks for more than one."""
    return config.new_tokens if config.new_tokens > 1 else constants.timed_tokens


def timing_rules(config: Config, *, memory: bool = True) -> TimingRules:
    """A timing run ends when medians are known to 2 %, or after --measure-time."""
    from topovlm.measure.settings import TimingRules

    return TimingRules(time_limit_s=config.measure_time_ms / 1e3, seed=config.seed, memory=memory)


def timing_progress(rules: TimingRules, progress: Progress) -> RoundProgress:
    """The timing run's own progress (rounds, seconds spent) as (done, total) of its time limit."""
    limit = max(1, round(10 * rules.time_limit_s))

    def shown(rounds: int, spent_s: float) -> None:
        progress(min(round(10 * spent_s), limit), limit)

    return shown


def time_folders(
    config: Config,
    folders: Mapping[str, Path],
    progress: Progress,
    *,
    memory: bool = True,
    device: Device | None = None,
    constants: Constants = CONSTANTS,
) -> Comparison:
    """Interleaved timings of exported folders (name -> folder) at the declared workload.

    `device`: this machine, or a board that is connected (`measure.devices.open_device`).
    """
    from topovlm.measure.local import LocalDevice
    from topovlm.measure.settings import RunSettings
    from topovlm.measure.ssh.parcel import Preparer
    from topovlm.measure.timing_workload import Blank, synthetic_workload

    first = next(iter(folders.values()))
    preparer = Preparer(first)
    blank = Blank.of(preparer, config.images, config.image_size, frames=config.frames)
    visual = blank.visual_tokens
    facts = preparer.manifest.facts
    planned = facts.visual_tokens(workload_of(config, facts))
    if planned != visual:  # the prediction would be about another prompt than the measurement
        rule = f"are what this model's pictures take in a prompt; a plan counts {planned}"
        raise VerificationError(explain("visual tokens", visual, rule))
    workload = synthetic_workload(
        preparer,
        images=config.images,
        frames=config.frames,
        prompt_tokens=visual + (config.prompt_tokens or max(Workload.prompt_tokens, blank.text_tokens)),
        new_tokens=timed_tokens(config, constants),
        seed=config.seed,
        image_size=config.image_size,
    )
    rules = timing_rules(config, memory=memory)
    return (device or LocalDevice()).compare(
        folders, workload, rules, RunSettings(threads=config.threads), timing_progress(rules, progress)
    )


def phase_samples(timings: EngineTimings) -> dict[str, list[float]]:
    """Raw samples (ms) of one engine by the report's phases; embedding counts as prefill."""
    samples = timings.samples
    prefill = [a + b for a, b in zip(samples["embed"], samples["prefill"], strict=True)]
    names = ("vision", "token", "ttft", "end_to_end")
    return {**{name: samples[name] for name in names if name in samples}, "prefill": prefill}
