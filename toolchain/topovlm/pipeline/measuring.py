"""Accuracy of exported folders, dense and slim, on this machine; latency on it or on the board."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import __version__, artifacts, records
from topovlm.config import Config
from topovlm.console import Progress
from topovlm.pipeline.context import ANSWER_TOKENS, TIMED_TOKENS, Context, versions
from topovlm.pipeline.exporting import BASELINE, DEPLOYED
from topovlm.pipeline.rundir import HIDDEN, Record
from topovlm.samples import Sample
from topovlm.units import format_bytes, format_ms

if TYPE_CHECKING:
    from topovlm.evaluation.evaluate import Outcome
    from topovlm.evaluation.task import Task
    from topovlm.measure.device import Device
    from topovlm.measure.timing import TimingRules


# Questions whose pictures are decoded at a time: photos of a user's data may be large.
_PICTURES_AT_ONCE = 64


def evaluate(context: Context, name: str, folder: str, exported: Record) -> Record | None:
    """Answer the held-out questions with one exported folder; None without questions that have answers."""
    inputs = {
        "graphs": exported.outputs,
        "answer_tokens": ANSWER_TOKENS,
        "task": context.task.name,
        "topovlm": __version__,
        **context.held_out_inputs,
        **versions(),
    }
    output = f"{HIDDEN}/results/{name}.json"

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        samples = context.held_out_samples()
        outcomes = []
        if samples:
            outcomes = answer(
                context.run.root / folder, context.task, samples, context.config.threads, progress
            )
        artifacts.write_json(work / output, [asdict(outcome) for outcome in outcomes])
        return {"questions": len(outcomes), "score": sum(outcome.score for outcome in outcomes)}

    record = context.run.stage(name, inputs, [output], make)
    return record if record.value["questions"] else None


def answer(
    folder: Path, task: Task, samples: Sequence[Sample], threads: int, progress: Progress
) -> list[Outcome]:
    """Answer a task's questions with an exported folder and score them."""
    from topovlm.evaluation.evaluate import evaluate as answer_in_chunks
    from topovlm.runtime.engine import Engine

    engine = Engine(folder, variant="plain", threads=threads)
    return answer_in_chunks(
        engine, task, samples, max_new_tokens=ANSWER_TOKENS, chunk=_PICTURES_AT_ONCE, progress=progress
    )


def read_outcomes(context: Context, name: str) -> list[Outcome]:
    """What an evaluation stage stored."""
    from topovlm.evaluation.evaluate import Outcome

    path = context.run.root / HIDDEN / "results" / f"{name}.json"
    return records.read(path, list[Outcome], field="outcomes", remedy="Delete it and run again")


def measure(context: Context, *, slim: bool) -> Record:
    """Latency and memory of the dense graphs and, with `slim`, of the slim ones in turns with them."""
    config, root = context.config, context.run.root
    folders = {"dense": BASELINE, "slim": DEPLOYED} if slim else {"dense": BASELINE}
    exported = {"dense": "export-dense", "slim": "export"}
    inputs = {
        "graphs": {name: context.run.records[exported[name]].outputs for name in folders},
        **context.timing,
        "images": config.images,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": timed_tokens(config),
        "seed": config.seed,
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        paths = {name: root / path for name, path in folders.items()}
        with context.device() as device:
            return {"timings": time_folders(config, paths, progress, device=device)}

    return context.run.stage("measure", inputs, [], make)


def judge(config: Config, keep: int, timed: Record) -> dict[str, Any]:
    """Whether the measured slim model meets the budgets of latency and memory; `text` says it in words.

    The upper end of an interval is compared, unless noise is larger than what a layer costs: then the median,
    since taking out another layer would answer the noise. A relative budget is judged on the ratio of the two
    models timed in turns.
    """
    from topovlm.stats.robust import paired_ratio, summarise

    phase = "end_to_end" if config.new_tokens > 1 else "ttft"
    engines = timed.value["timings"]["engines"]
    dense, slim = (engines[name]["samples"] for name in ("dense", "slim"))
    ratio, latency, whole = (
        paired_ratio(dense[phase], slim[phase]),
        summarise(slim[phase]),
        summarise(dense[phase]),
    )
    gone = engines["dense"]["layers"] - engines["slim"]["layers"]
    misses = []
    if config.max_latency is not None and config.max_latency.share_of_dense is not None:
        share = config.max_latency.share_of_dense
        if _over(ratio.ratio, ratio.high, share, (1 - ratio.ratio) / gone):
            misses.append(
                f"{100 * ratio.ratio:.1f} % of dense (up to {100 * ratio.high:.1f} %) of {100 * share:g} %"
            )
    elif config.max_latency is not None:
        bound = config.max_latency.resolve_ms(whole.median_ms)
        if _over(latency.median_ms, latency.high_ms, bound, (whole.median_ms - latency.median_ms) / gone):
            text = (
                f"{format_ms(latency.median_ms)} (up to {format_ms(latency.high_ms)}) of {format_ms(bound)}"
            )
            misses.append(text)
    if config.max_token_latency is not None:
        token, before = summarise(slim["token"]), summarise(dense["token"])
        layer_ms = (before.median_ms - token.median_ms) / gone
        if _over(token.median_ms, token.high_ms, config.max_token_latency, layer_ms):
            misses.append(f"{format_ms(token.median_ms)} per token of {format_ms(config.max_token_latency)}")
    footprint = engines["slim"].get("footprint")
    if config.max_memory is not None and footprint and footprint["peak_bytes"] > config.max_memory:
        peak, allowed = format_bytes(footprint["peak_bytes"]), format_bytes(config.max_memory)
        misses.append(f"{peak} of memory at its peak of {allowed}")
    outcome = f"misses the budget: {'; '.join(misses)}" if misses else "meets the budget"
    return {
        "keep": keep,
        "met": not misses,
        "phase": phase,
        "slim_ms": latency.median_ms,
        "ratio": ratio.to_dict(),
        "text": f"{keep} layers, measured: {outcome}",
    }


def _over(value: float, high: float, bound: float, one_layer: float) -> bool:
    return (high if high - value <= one_layer else value) > bound


def rejected(context: Context, keep: int, scored: Record) -> dict[str, Any] | None:
    """The verdict of an earlier attempt with as many layers that missed the budget, if there was one."""
    record = context.run.valid(f"rejected-{keep}", _attempt_inputs(context, keep, scored))
    return None if record is None else record.value


def reject(context: Context, keep: int, scored: Record, verdict: dict[str, Any]) -> None:
    """Remember that so many layers are too many: a resumed run need not try again."""
    inputs, name = _attempt_inputs(context, keep, scored), f"rejected-{keep}"
    context.run.stage(name, inputs, [], lambda work, progress: verdict)
    del context.run.records[name]  # a memory of this directory, no part of what the report describes


def _attempt_inputs(context: Context, keep: int, scored: Record) -> dict[str, Any]:
    config = context.config
    return {
        **context.base,
        **context.timing,
        "keep": keep,
        "scores": scored.digest,
        "drop": None if config.drop is None else list(config.drop),
        "max_latency": None if config.max_latency is None else str(config.max_latency),
        "max_token_latency": config.max_token_latency,
        "max_memory": config.max_memory,
        "images": config.images,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": config.new_tokens,
        "profile": context.run.records["profile"].digest if context.on_target else None,
    }


def timed_tokens(config: Config) -> int:
    """Generated tokens of a timing run: the workload's own when it asks for more than one."""
    new_tokens = config.new_tokens
    return new_tokens if new_tokens > 1 else TIMED_TOKENS


def timing_rules(config: Config, *, memory: bool = True) -> TimingRules:
    """A timing run ends when medians are known to 2 %, or after --measure-time."""
    from topovlm.measure.timing import TimingRules

    return TimingRules(time_limit_s=config.measure_time / 1e3, seed=config.seed, memory=memory)


def timing_progress(rules: TimingRules, progress: Progress) -> Callable[[int, float], None]:
    """The timing run's own progress (rounds, seconds spent) as (done, total) of its time limit."""
    limit = max(1, round(10 * rules.time_limit_s))
    return lambda rounds, spent: progress(min(round(10 * spent), limit), limit)


def time_folders(
    config: Config,
    folders: dict[str, Path],
    progress: Progress,
    *,
    memory: bool = True,
    device: Device | None = None,
) -> dict[str, Any]:
    """Interleaved timings of exported folders (name -> folder) at the declared workload; JSON-able.

    `device`: this machine, or a board that is connected (`measure.device.open_device`).
    """
    from topovlm.measure.device import LocalDevice
    from topovlm.measure.ssh.parcel import synthetic
    from topovlm.runtime.manifest import load_manifest

    first = next(iter(folders.values()))
    visual = config.images * load_manifest(first).tokens_per_image
    workload = synthetic(
        first,
        images=config.images,
        prompt_tokens=visual + config.prompt_tokens,
        new_tokens=timed_tokens(config),
        seed=config.seed,
    )
    rules = timing_rules(config, memory=memory)
    comparison = (device or LocalDevice()).compare(
        folders, workload, rules, threads=config.threads, progress=timing_progress(rules, progress)
    )
    return {**comparison.to_dict(), "visual_tokens": visual}


def phase_samples(timings: dict[str, Any], name: str) -> dict[str, list[float]]:
    """Raw samples (ms) of one engine by the report's phases; embedding counts as prefill."""
    samples = timings["engines"][name]["samples"]
    embed, prefill = samples["embed"], samples["prefill"]
    phases = {"prefill": [a + b for a, b in zip(embed, prefill, strict=True)]}
    return {
        **{key: samples[key] for key in ("vision", "token", "ttft", "end_to_end") if key in samples},
        **phases,
    }
