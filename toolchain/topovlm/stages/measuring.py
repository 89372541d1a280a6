"""Accuracy and latency of exported folders, dense and slim, on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from topovlm import artifacts
from topovlm.console import Progress
from topovlm.rundir import HIDDEN, Record
from topovlm.stages.context import ANSWER_TOKENS, TIMED_TOKENS, Context

# A timing run ends when medians are known to 2 %, or after this long.
_TIMING_LIMIT_S = 20.0


def evaluate(context: Context, name: str, folder: str, exported: Record) -> Record | None:
    """Answer the held-out questions with one exported folder; None without questions that have answers."""
    inputs = {
        "graphs": exported.outputs,
        "questions": context.config.eval_samples,
        "answer_tokens": ANSWER_TOKENS,
        **context.data_inputs,
    }
    output = f"{HIDDEN}/results/{name}.json"

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.evaluation.evaluate import check_samples, score_text
        from topovlm.runtime.engine import Engine

        samples = context.held_out_samples()
        if not samples:
            artifacts.write_json(work / output, [])
            return {"questions": 0}
        check_samples(samples)
        engine = Engine(context.run.root / folder, variant="plain", threads=context.config.threads)
        items = [(sample.load_images(), sample.prompt) for sample in samples]
        answers = engine.generate_batch(
            items, max_new_tokens=ANSWER_TOKENS, progress=lambda done: progress(done, len(items))
        )
        outcomes = [score_text(sample, answer.text) for sample, answer in zip(samples, answers, strict=True)]
        artifacts.write_json(work / output, [asdict(outcome) for outcome in outcomes])
        return {"questions": len(outcomes), "correct": sum(outcome.correct for outcome in outcomes)}

    record = context.run.stage(name, inputs, [output], make)
    return record if record.value["questions"] else None


def timed_tokens(context: Context) -> int:
    """Generated tokens of a timing run: the workload's own when it asks for more than one."""
    new_tokens = context.config.new_tokens
    return new_tokens if new_tokens > 1 else TIMED_TOKENS


def time_folders(
    context: Context, folders: dict[str, Path], progress: Progress, *, memory: bool = True
) -> dict[str, Any]:
    """Interleaved timings of exported folders (name -> folder) at the declared workload; JSON-able."""
    from topovlm.runtime.engine import Engine
    from topovlm.runtime.timing import TimingRules, compare
    from topovlm.runtime.workload import synthetic_workload

    config = context.config
    engines = {name: Engine(folder, threads=config.threads) for name, folder in folders.items()}
    first = next(iter(engines.values()))
    visual = config.images * first.manifest.tokens_per_image
    workload = synthetic_workload(
        first,
        images=config.images,
        prompt_tokens=visual + config.prompt_tokens,
        new_tokens=timed_tokens(context),
        seed=config.seed,
    )
    rules = TimingRules(time_limit_s=_TIMING_LIMIT_S, seed=config.seed, memory=memory)
    limit = round(rules.time_limit_s)
    comparison = compare(
        engines, workload, rules, progress=lambda rounds, spent: progress(min(round(spent), limit), limit)
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
