"""Measure the machine at hand with the model itself: each phase over decoder layers and prompt length.

The dense export and slices of it are timed interleaved at several prompt lengths. What comes out is a
profile that the predictor uses in place of a data sheet, at the workload asked for and (`surface.profile_at`)
at lengths that were never timed. Layout: see `profiles.py`.

Unlocked clocks, battery and a busy machine are warnings. Throttling is grave. A drift above 3 % has the run
repeated once, and is grave if it stays; such profiles are used with their wider spread, but not filed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.artifacts import read_json
from topovlm.errors import InputError, explain
from topovlm.families.configs import context_tokens
from topovlm.measure.profile import DRIFT_LIMIT, Watched, document, load_profile, save_profile

if TYPE_CHECKING:
    from topovlm.measure.timing import TimingRules
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.runtime.engine import Engine

__all__ = [
    "context_limit",
    "default_layer_counts",
    "default_lengths",
    "load_profile",
    "measure_engines",
    "measure_local",
    "save_profile",
]

_SLICES = (2, 6)


def measure_local(
    folder: str | Path,
    shallower: Sequence[tuple[int, str | Path]] | None = None,
    *,
    layer_counts: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    images: int = 1,
    prompt_tokens: int | None = None,
    new_tokens: int = 8,
    variant: str = "auto",
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    rules: TimingRules | None = None,
    scratch: str | Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Profile of this machine from the dense export `folder` and `shallower` ones, (layers, folder) each.

    Without `shallower`, slices of `layer_counts` layers (default: 2, 6 and the middle of the rest) are cut
    out of the dense graph.
    `prompt_tokens` counts text with its template (default: 16 words); `lengths` are the prompt lengths to
    time with it, visual tokens included (default: from the bare template to four times the workload, as far
    as the model's context reaches). Where one round of all that takes too long for `rules`, fewer lengths
    are timed. Slices are written below `scratch` (default: beside the export, so that unchanged files can
    be linked) and removed.
    Raises `InputError` for folders that are no exports or of one depth, `VerificationError` when the graph
    cannot be sliced.
    """
    from topovlm.exporters.onnx.slices import slice_export
    from topovlm.runtime.engine import Engine

    began = perf_counter()
    dense = Engine(folder, variant=variant, threads=threads, providers=providers)
    with ExitStack() as stack:
        if shallower is None:
            counts = layer_counts or default_layer_counts(dense.manifest.layers)
            room = _scratch(stack, Path(scratch) if scratch else dense.manifest.folder.parent)
            shallower = [(n, slice_export(folder, n, room / str(n), dense.variant)) for n in counts]
        engines: dict[int, Engine] = {dense.manifest.layers: dense}
        for layers, path in shallower:
            engine = Engine(path, variant=dense.variant, threads=threads, providers=providers)
            if engine.manifest.layers != layers or layers in engines:
                rule = f"the export has {engine.manifest.layers} layers; depths must differ"
                raise InputError(explain("shallower", (layers, str(path)), rule))
            engines[layers] = engine
        return measure_engines(
            engines,
            lengths=lengths,
            images=images,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            rules=rules,
            progress=progress,
            began=began,
        )


def measure_engines(
    engines: Mapping[int, Engine],
    *,
    lengths: Sequence[int] | None = None,
    images: int = 1,
    prompt_tokens: int | None = None,
    new_tokens: int = 8,
    rules: TimingRules | None = None,
    progress: Callable[[int, float], None] | None = None,
    began: float | None = None,
) -> dict[str, Any]:
    """Profile of this machine from opened engines by depth, the deepest one dense; see `measure_local`.

    `began`: when the work started, by `perf_counter` (default: now).
    """
    from topovlm.measure.sweep import warm_up
    from topovlm.measure.timing import TimingRules
    from topovlm.measure.timing_workload import synthetic_workload

    began = perf_counter() if began is None else began
    rules = rules or TimingRules(time_limit_s=30)
    if len(engines) < 2:
        raise InputError(explain("shallower", [], "at least one other depth is needed for a slope"))
    dense = engines[max(engines)]
    new_tokens = max(2, new_tokens)  # a profile needs a time per token, whatever the workload asks for
    visual = images * dense.manifest.tokens_per_image
    total = None if prompt_tokens is None else prompt_tokens + visual
    base = synthetic_workload(dense, images=images, prompt_tokens=total, new_tokens=new_tokens)
    shortest = len(dense.prompter.encode("", images))
    limit = context_limit(dense.manifest.folder)
    wanted = lengths or default_lengths(shortest, base.prompt_tokens, limit, new_tokens)
    workloads = {base.prompt_tokens: base}
    for tokens in wanted:
        workloads[tokens] = synthetic_workload(
            dense, images=images, prompt_tokens=tokens, new_tokens=new_tokens
        )
    if lengths is None:
        # The workload itself decides whether there is time for other lengths.
        seconds = warm_up(engines, {base.prompt_tokens: base}, 2)  # the first run is slower
        workloads = _affordable(workloads, base.prompt_tokens, seconds, rules)
    run = _watched_sweep(engines, dict(sorted(workloads.items())), rules, progress)
    memory = _memory(engines, base) if rules.memory else None
    measured = document(dense, base, run, memory)
    return {**measured, "target": _target(dense, run), "seconds": perf_counter() - began}


def _target(dense: Engine, run: Watched) -> str:
    """`local`: this machine's processor; on its GPU the id of that card, or `board` for an unknown one."""
    from topovlm.predict.target import UNRECOGNISED, recognise
    from topovlm.runtime.sessions import ON_CUDA

    if dense.providers_used["decoder"][0] not in ON_CUDA:
        return "local"
    names = [gpu["name"] for gpu in run.environment["gpus"] if "name" in gpu]
    return recognise((), names[:1]) or UNRECOGNISED


def default_layer_counts(layers: int) -> list[int]:
    """Depths to time beside the dense one: 2 and 6, and the middle between 6 and all where there is room."""
    if layers < 3:
        rule = "is too few to cut slices from"
        raise InputError(explain("layers", layers, rule, "Give shallower exports"))
    low, high = _SLICES
    depths = {low, min(high, (layers + low) // 2)}
    if layers >= high + 4:
        depths.add((high + layers) // 2)
    return sorted(depths - {layers})


def default_lengths(shortest: int, base: int, limit: int | None, new_tokens: int) -> list[int]:
    """Prompt lengths to time: the bare template, the workload, and two and four times it, where they fit."""
    longest = 4 * base if limit is None else min(4 * base, limit - new_tokens)
    return sorted({shortest, base, *(tokens for tokens in (2 * base, longest) if base < tokens <= longest)})


def context_limit(folder: Path) -> int | None:
    """Most tokens that the model's positions cover, where the export's config.json tells."""
    if not (folder / "config.json").is_file():
        return None
    return context_tokens(read_json(folder / "config.json"))


def _watched_sweep(
    engines: Mapping[int, Engine],
    workloads: Mapping[int, TimingWorkload],
    rules: TimingRules,
    progress: Callable[[int, float], None] | None,
) -> Watched:
    """Warm up and sweep between two looks at the machine; a run that drifts is repeated once."""
    from topovlm.machine.environment import describe_machine
    from topovlm.machine.power import PowerLog
    from topovlm.machine.telemetry import Doubt, doubts, read_telemetry
    from topovlm.measure.sweep import sweep, warm_up

    environment = describe_machine()
    before = read_telemetry(gpus=environment.gpus)
    warm_up(engines, workloads, rules.warmup)
    with PowerLog() as power:
        run = sweep(engines, workloads, rules, progress=progress)
    if abs(run.drift) > DRIFT_LIMIT:
        with PowerLog() as again_power:
            again = sweep(engines, workloads, rules)
        if abs(again.drift) < abs(run.drift):
            run, power = again, again_power
    after = read_telemetry(gpus=describe_machine().gpus)
    found = doubts(before, after)
    if environment.load_1min is not None and environment.load_1min > 0.5 * environment.cores:
        busy = f"the machine is busy: load {environment.load_1min:.1f} on {environment.cores} cores"
        found.append(Doubt("load", f"{busy}; timings are inflated"))
    if abs(run.drift) > DRIFT_LIMIT:
        text = f"the pace changed by {100 * run.drift:+.1f} % during the run: clocks, heat or other work"
        found.append(Doubt("drift", text, grave=True))
    return Watched(
        run,
        environment.to_dict(),
        {"before": before.to_dict(), "after": after.to_dict()},
        power.to_dict(),
        [asdict(doubt) for doubt in found],
    )


def _affordable(
    workloads: dict[int, TimingWorkload], base: int, seconds: float, rules: TimingRules
) -> dict[int, TimingWorkload]:
    """Drop the longest prompts while the least number of rounds would overrun; the workload's stays.

    `seconds`: one round of the workload alone. Time is taken to grow with the tokens.
    """
    kept = dict(workloads)
    while len(kept) > 1:
        rounds = rules.min_rounds + rules.warmup
        if rounds * seconds * sum(tokens / base for tokens in kept) <= 2 * rules.time_limit_s:
            break
        del kept[max(tokens for tokens in kept if tokens != base)]
    return kept


def _scratch(stack: ExitStack, parent: Path) -> Path:
    try:
        held = tempfile.TemporaryDirectory(prefix=".slices-", dir=parent)
    except OSError:  # a read-only place: copies elsewhere cost space, not correctness
        held = tempfile.TemporaryDirectory(prefix="topovlm-slices-")
    return Path(stack.enter_context(held))


def _memory(engines: Mapping[int, Engine], workload: TimingWorkload) -> dict[str, float] | None:
    """Peak bytes of the model as a line in layers, libraries apart; None when a footprint is missing."""
    from topovlm.measure.footprint import measure_footprint

    found = {}
    for layers, engine in engines.items():
        request = {
            "folder": str(engine.manifest.folder),
            "variant": engine.variant,
            "threads": engine.threads,
            "providers": engine.providers_used["decoder"],
            "images": workload.images,
            "prompt_tokens": workload.prompt_tokens,
            "new_tokens": workload.new_tokens,
        }
        try:
            found[layers] = measure_footprint(request)
        except RuntimeError:
            return None
    if any(footprint.model_bytes <= 0 for footprint in found.values()):
        return None
    depth = np.array(sorted(found), float)
    slope, intercept = np.polyfit(depth, [found[int(n)].model_bytes for n in depth], 1)
    libraries = float(np.median([footprint.libraries_bytes for footprint in found.values()]))
    return {
        "intercept_bytes": float(intercept),
        "slope_bytes_per_layer": float(slope),
        "libraries_bytes": libraries,
    }
