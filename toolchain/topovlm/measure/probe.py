"""Measure the machine at hand with the model itself: each phase over decoder layers and prompt length.

The dense export and slices of it are timed interleaved at several prompt lengths. What comes out is a
profile that the predictor uses in place of a data sheet, at the workload asked for and
(`predict.measured.profile_at`) at lengths that were never timed.

Unlocked clocks, battery and a busy machine are warnings. Throttling is grave. A drift above 3 % has the run
repeated once, and is grave if it stays; such profiles are used with their wider spread, but not filed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import numpy as np
from msgspec import structs

from topovlm.errors import InputError, explain
from topovlm.exporters.onnx.slices import slice_export
from topovlm.machine.environment import environment_of, versions
from topovlm.machine.host import this_host
from topovlm.machine.look import look_here
from topovlm.machine.power import PowerLog
from topovlm.machine.telemetry import doubts
from topovlm.measure.cells import default_layer_counts
from topovlm.measure.profile import Subject, Watched, document, dtype_of, memory_line, pace_doubts
from topovlm.measure.settings import ProfileRequest, RoundProgress, TimingRules
from topovlm.measure.sweep import sweep, warm_up
from topovlm.measure.timing import footprint_of
from topovlm.measure.timing_workload import TimingWorkload, profile_workloads
from topovlm.predict.profile import Energy, Looks, MemoryLine, Profile
from topovlm.predict.target import LOCAL, UNRECOGNISED, recognise
from topovlm.runtime.engine import Engine
from topovlm.stats.robust import DRIFT_LIMIT


def measure_local(
    folder: str | Path,
    request: ProfileRequest | None = None,
    *,
    shallower: Sequence[tuple[int, str | Path]] | None = None,
    progress: RoundProgress | None = None,
) -> Profile:
    """Profile of this machine from the dense export `folder` and slices that are cut out of it.

    `shallower` exports, (layers, folder) each, take the slices' place.
    Raises `InputError` for folders that are no exports or of one depth, `VerificationError` when the graph
    cannot be sliced.
    """
    request = request or ProfileRequest()
    began, run = perf_counter(), request.run
    dense = Engine(folder, variant=run.variant, threads=run.threads, providers=run.providers)
    with ExitStack() as stack:
        if shallower is None:
            counts = request.layer_counts or default_layer_counts(dense.manifest.layers)
            room = _scratch(stack, request.scratch or dense.manifest.folder.parent)
            shallower = [(n, slice_export(folder, n, room / str(n), dense.variant)) for n in counts]
        engines: dict[int, Engine] = {dense.manifest.layers: dense}
        for layers, path in shallower:
            engine = Engine(path, variant=dense.variant, threads=run.threads, providers=run.providers)
            if engine.manifest.layers != layers or layers in engines:
                rule = f"the export has {engine.manifest.layers} layers; depths must differ"
                raise InputError(explain("shallower", (layers, str(path)), rule))
            engines[layers] = engine
        profile = measure_engines(engines, request, progress)
    return structs.replace(profile, seconds=perf_counter() - began)


def measure_engines(
    engines: Mapping[int, Engine], request: ProfileRequest, progress: RoundProgress | None = None
) -> Profile:
    """Profile of this machine from opened engines by depth, the deepest one dense; see `measure_local`."""
    began, rules = perf_counter(), request.rules
    if len(engines) < 2:
        raise InputError(explain("shallower", [], "at least one other depth is needed for a slope"))
    dense = engines[max(engines)]
    base, workloads = profile_workloads(dense, request)
    if request.lengths is None:
        # The workload itself decides whether there is time for other lengths.
        seconds = warm_up(engines, {base.prefill_tokens: base}, 2)  # the first run is slower
        workloads = _affordable(workloads, base.prefill_tokens, seconds, rules)
    run = _watched_sweep(engines, dict(sorted(workloads.items())), rules, progress)
    memory = _memory(engines, base) if rules.memory else None
    profile = document(_subject(dense, run), base, run, memory)
    return structs.replace(profile, seconds=perf_counter() - began)


def _subject(dense: Engine, run: Watched) -> Subject:
    """The target is `local`, this machine's processor; on its GPU the id of that card, `board` if unknown."""
    target = LOCAL
    if dense.runs_on.on_gpu:
        names = [gpu["name"] for gpu in run.environment.gpus if "name" in gpu]
        target = recognise((), names[:1]) or UNRECOGNISED
    return Subject(
        target=target,
        runtime=dense.runs_on.runtime,
        dtype=dtype_of(dense.variant, np.dtype(dense.decoder.dtype).name),
        variant=dense.variant,
        threads=dense.threads,
        layers=dense.manifest.layers,
        weights=dense.decoder.path,
        config_sha256=dense.manifest.file.source_config_sha256,
    )


def _watched_sweep(
    engines: Mapping[int, Engine],
    workloads: Mapping[int, TimingWorkload],
    rules: TimingRules,
    progress: RoundProgress | None,
) -> Watched:
    """Warm up and sweep between two looks at the machine; a run that drifts is repeated once."""
    look = look_here()
    environment, before = environment_of(this_host(), look, versions()), look.telemetry
    warm_up(engines, workloads, rules.warmup)
    with PowerLog() as power:
        run = sweep(engines, workloads, rules, progress=progress)
    if abs(run.drift) > DRIFT_LIMIT:
        with PowerLog() as again_power:
            again = sweep(engines, workloads, rules)
        if abs(again.drift) < abs(run.drift):
            run, power = again, again_power
    after = look_here().telemetry
    return Watched(
        sweep=run,
        environment=environment,
        telemetry=Looks(before=before.brief(), after=after.brief()),
        energy=_energy(power),
        doubts=(*doubts(before, after), *pace_doubts(run, environment)),
    )


def _energy(power: PowerLog) -> Energy | None:
    """None where nothing was measured."""
    if not power.energy_j:
        return None
    return Energy(seconds=power.seconds, energy_j=power.energy_j, mean_w=power.mean_w)


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


def _memory(engines: Mapping[int, Engine], workload: TimingWorkload) -> MemoryLine | None:
    """Peak bytes of the model as a line in layers; None where too few depths can be measured."""
    found = {n: footprint_of(engine, workload, workload.prefill_tokens) for n, engine in engines.items()}
    return memory_line({n: footprint for n, footprint in found.items() if footprint is not None})
