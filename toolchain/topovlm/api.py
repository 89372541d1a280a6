"""What `import topovlm` gives: the steps of the command line as typed functions.

Options are those of the flags, with underscores: a text as one would type it (`max_latency="200ms"`) or the
value itself (`samples=64`, `drop=(12, 13)`). What has a unit is given as a text. `None` is the default. Every
function raises the errors of `topovlm.errors`, which carry `field`, `value`, `rule` and `remedy`, and returns
the record that the command prints with `--json` (`topovlm.records.plain` makes plain data of it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.config import Config, resolve
from topovlm.console import Display
from topovlm.errors import InputError, explain
from topovlm.units import parse_share, wrong_type

if TYPE_CHECKING:
    from topovlm.choose.record import Scores
    from topovlm.exporters.protocol import ExportRecord
    from topovlm.pipeline.record import Deployment, PruneRecord
    from topovlm.planner.record import PlanRecord
    from topovlm.predict.profile import Profile
    from topovlm.report.checks import CheckResult
    from topovlm.sweeps.combinations import Combination
    from topovlm.sweeps.record import Sweep
    from topovlm.units import LatencyBudget

__all__ = ["check", "deploy", "export", "plan", "prune", "score", "sweep"]

AnyPath = str | PathLike[str]


def plan(
    *,
    target: str | None = None,
    mode: str | None = None,
    model: AnyPath | None = None,
    max_latency: str | LatencyBudget | None = None,
    max_token_latency: str | None = None,
    max_memory: str | None = None,
    sparsity: str | float | None = None,
    drop: str | Sequence[int] | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    images: int | None = None,
    frames: int | None = None,
    image_size: str | tuple[int, int] | None = None,
    dtype: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    measure_time: str | None = None,
    profile: Profile | AnyPath | None = None,
    visual_tokens: str | int | None = None,
    runtime: str | None = None,
    observed: Sequence[str] = (),
    confident: bool = False,
    config: AnyPath | None = None,
) -> PlanRecord:
    """How many decoder layers fit the budget on a target, predicted for every number of layers.

    Reads config.json alone. `model` may be the name of a well-known model; `target="local"` times this
    machine first. `image_size`: (height, width) in px, or "448x640"; `visual_tokens` in its place.
    `observed`: latencies of this request measured on the board ("ttft=231ms@layers=28"), which correct the
    figures. A budget that cannot be met is a plan with the verdict `infeasible`, not an error.
    """
    resolved = _resolve(
        config,
        target=target,
        mode=mode,
        model=model,
        max_latency=max_latency,
        max_token_latency=max_token_latency,
        max_memory=max_memory,
        sparsity=sparsity,
        drop=drop,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        images=images,
        frames=frames,
        image_size=image_size,
        dtype=dtype,
        seed=seed,
        threads=threads,
        measure_time=measure_time,
    )
    from topovlm.pipeline.dry_run import planned
    from topovlm.pipeline.question import read_choices
    from topovlm.predict.profile import Profile

    choices = read_choices(resolved, visual_tokens, confident=confident, runtime=runtime, observed=observed)
    known = profile if isinstance(profile, Profile) or profile is None else _path(profile, "--profile")
    return planned(resolved, Display(quiet=True), known, choices)[1]


def deploy(
    *,
    target: str | None = None,
    mode: str | None = None,
    model: AnyPath | None = None,
    task: str | None = None,
    data: AnyPath | None = None,
    max_latency: str | LatencyBudget | None = None,
    max_token_latency: str | None = None,
    max_memory: str | None = None,
    memory: str | None = None,
    max_drop: str | float | None = None,
    sparsity: str | float | None = None,
    drop: str | Sequence[int] | None = None,
    scorer: str | None = None,
    repair: str | None = None,
    heal: str | None = None,
    k: int | str | None = None,
    cloud: str | None = None,
    token: str | None = None,
    samples: int | None = None,
    judge_samples: int | None = None,
    judgements: int | None = None,
    finalists: int | None = None,
    eval_samples: int | None = None,
    bench: str | Sequence[str] | None = None,
    bench_data: AnyPath | None = None,
    limit: int | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    images: int | None = None,
    frames: int | None = None,
    image_size: str | tuple[int, int] | None = None,
    dtype: str | None = None,
    format: str | Sequence[str] | None = None,
    seed: int | None = None,
    threads: int | None = None,
    measure_time: str | None = None,
    until: str | None = None,
    output: AnyPath | None = None,
    device: str | None = None,
    workers: str | None = None,
    config: AnyPath | None = None,
    display: Display | None = None,
) -> Deployment:
    """The whole chain, from a budget to a report, in the run directory `output`; resumes what is there.

    With `until`, what the stages up to that one decided: `report` is empty then.

    Nothing is written before all inputs are checked. Progress goes to `display` (default: nowhere).
    """
    resolved = _resolve(
        config,
        target=target,
        mode=mode,
        model=model,
        task=task,
        data=data,
        max_latency=max_latency,
        max_token_latency=max_token_latency,
        max_memory=max_memory,
        memory=memory,
        max_drop=max_drop,
        sparsity=sparsity,
        drop=drop,
        scorer=scorer,
        repair=repair,
        heal=heal,
        k=k,
        cloud=cloud,
        token=token,
        samples=samples,
        judge_samples=judge_samples,
        judgements=judgements,
        finalists=finalists,
        eval_samples=eval_samples,
        bench=bench,
        bench_data=bench_data,
        limit=limit,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        images=images,
        frames=frames,
        image_size=image_size,
        dtype=dtype,
        format=format,
        seed=seed,
        threads=threads,
        measure_time=measure_time,
        until=until,
        output=output,
        device=device,
        workers=workers,
    )
    from topovlm.pipeline.deploy import deploy as run

    argv = ("topovlm", "deploy", *resolved.words())
    return run(resolved, argv, display or Display(quiet=True))


def sweep(
    *,
    target: str | Sequence[str] | None = None,
    mode: str | None = None,
    model: AnyPath | Sequence[AnyPath] | None = None,
    task: str | None = None,
    data: AnyPath | None = None,
    max_latency: str | LatencyBudget | Sequence[str | LatencyBudget] | None = None,
    max_token_latency: str | Sequence[str] | None = None,
    max_memory: str | Sequence[str] | None = None,
    memory: str | None = None,
    max_drop: str | float | None = None,
    sparsity: str | float | Sequence[str | float] | None = None,
    drop: str | Sequence[int] | None = None,
    scorer: str | None = None,
    repair: str | None = None,
    heal: str | None = None,
    k: int | str | None = None,
    cloud: str | None = None,
    token: str | None = None,
    samples: int | None = None,
    judge_samples: int | None = None,
    judgements: int | None = None,
    finalists: int | None = None,
    eval_samples: int | None = None,
    bench: str | Sequence[str] | None = None,
    bench_data: AnyPath | None = None,
    limit: int | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    images: int | None = None,
    frames: int | None = None,
    image_size: str | tuple[int, int] | None = None,
    dtype: str | None = None,
    format: str | Sequence[str] | None = None,
    seed: int | None = None,
    threads: int | None = None,
    measure_time: str | None = None,
    until: str | None = None,
    output: AnyPath | None = None,
    device: str | None = None,
    workers: str | None = None,
    config: AnyPath | None = None,
    display: Display | None = None,
) -> Sweep:
    """Deploy every combination of models, targets and budgets, each in a run directory below `output`.

    Several values are a list (each as it is), or a text with commas. What one combination cannot do is its
    row's `ended`; an error is raised for what concerns all. Progress goes to `display` (default: nowhere).
    """
    asked = _combinations(
        config,
        target=target,
        mode=mode,
        model=model,
        task=task,
        data=data,
        max_latency=max_latency,
        max_token_latency=max_token_latency,
        max_memory=max_memory,
        memory=memory,
        max_drop=max_drop,
        sparsity=sparsity,
        drop=drop,
        scorer=scorer,
        repair=repair,
        heal=heal,
        k=k,
        cloud=cloud,
        token=token,
        samples=samples,
        judge_samples=judge_samples,
        judgements=judgements,
        finalists=finalists,
        eval_samples=eval_samples,
        bench=bench,
        bench_data=bench_data,
        limit=limit,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        images=images,
        frames=frames,
        image_size=image_size,
        dtype=dtype,
        format=format,
        seed=seed,
        threads=threads,
        measure_time=measure_time,
        until=until,
        output=output,
        device=device,
        workers=workers,
    )
    from topovlm.sweeps.sweep import sweep as run

    return run(asked, ("topovlm", "sweep"), display or Display(quiet=True))


def score(
    model: AnyPath | None = None,
    *,
    task: str | None = None,
    data: AnyPath | None = None,
    scorer: str | None = None,
    k: int | str | None = None,
    cloud: str | None = None,
    token: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    memory: str | None = None,
    workers: str | None = None,
    config: AnyPath | None = None,
) -> Scores:
    """Every decoder layer's score on calibration samples, by all scorers that cost next to nothing and by the
    one that is named. A high score says: may go."""
    resolved = _resolve(
        config,
        model=model,
        task=task,
        data=data,
        scorer=scorer,
        k=k,
        cloud=cloud,
        token=token,
        samples=samples,
        seed=seed,
        memory=memory,
        workers=workers,
    )
    from topovlm.pipeline.alone import score_model

    return score_model(resolved, Display(quiet=True))


def prune(
    model: AnyPath,
    drop: str | Sequence[int],
    output: AnyPath,
    *,
    verify: bool = True,
    memory: str | None = None,
) -> PruneRecord:
    """`model` without the decoder layers `drop`, as a new checkpoint folder `output`.

    Verified by reloading and generating; with `verify=False` only the files are compared.
    """
    resolved = _resolve(None, model=model, drop=drop, output=output, memory=memory)
    from topovlm.pipeline.alone import prune_model

    return prune_model(resolved, Display(quiet=True), verify=verify)


def export(
    model: AnyPath, output: AnyPath, *, dtype: str | None = None, memory: str | None = None
) -> ExportRecord:
    """ONNX graphs of `model` in a new folder `output`, checked number by number against torch."""
    resolved = _resolve(None, model=model, output=output, dtype=dtype, memory=memory)
    from topovlm.pipeline.alone import export_model

    return export_model(resolved, Display(quiet=True))


def check(
    candidate: AnyPath,
    baseline: AnyPath,
    *,
    latency_tolerance: str | float = 0.05,
    accuracy_tolerance: str | float = 0.01,
    confidence: str | float = 0.95,
    junit: AnyPath | None = None,
) -> CheckResult:
    """Compare two runs (directories or report.json files); `.regressed` says whether the new one got worse.

    Tolerances are shares (0.05 or "5%"): of the latency, and points of accuracy. `junit`: also write JUnit
    XML there.
    """
    from topovlm.report.gate import run_check

    return run_check(
        _path(candidate, "candidate"),
        _path(baseline, "--baseline"),
        latency_tolerance=parse_share(latency_tolerance, "--latency-tolerance"),
        accuracy_tolerance=parse_share(accuracy_tolerance, "--accuracy-tolerance"),
        confidence=parse_share(confidence, "--confidence"),
        junit=None if junit is None else _path(junit, "--junit"),
    )


def _resolve(config: AnyPath | None, **given: object) -> Config:
    """The configuration of a call: the same table, parsers and rules as for the flags."""
    return resolve(_texts(given), None if config is None else _path(config, "--config"))


def _combinations(config: AnyPath | None, **given: object) -> tuple[Combination, ...]:
    """The same of a sweep: one configuration for each combination of what is listed."""
    from topovlm.sweeps.combinations import combinations

    return combinations(_texts(given), None if config is None else _path(config, "--config"))


def _texts(given: Mapping[str, object]) -> dict[str, object]:
    """Paths as texts, all else as it is."""
    return {name: str(value) if isinstance(value, PathLike) else value for name, value in given.items()}


def _path(value: AnyPath, field: str) -> Path:
    try:
        return Path(value)
    except TypeError:
        raise InputError(explain(field, value, wrong_type(value), "Give a path")) from None
