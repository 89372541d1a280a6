"""A board's profile: the same slices, lengths, fit and document as for the machine at hand."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from msgspec import structs

from topovlm.exporters.onnx.slices import slice_export
from topovlm.machine.environment import Environment
from topovlm.measure.cells import default_layer_counts
from topovlm.measure.profile import Subject, Watched, document, dtype_of, memory_line, pace_doubts
from topovlm.measure.settings import ProfileRequest, RoundProgress
from topovlm.measure.ssh.checks import target_of
from topovlm.measure.ssh.messages import Case
from topovlm.measure.ssh.parcel import Load, Preparer, pack
from topovlm.measure.ssh.remote import Ready, Remote
from topovlm.measure.ssh.rounds import Asked, PartialSweep, Rounds, Runs, sweep_samples
from topovlm.measure.sweep import precise
from topovlm.measure.timing_workload import profile_workloads
from topovlm.predict.profile import DeviceFacts, Looks, Profile
from topovlm.predict.target import UNRECOGNISED
from topovlm.runtime.manifest import Manifest
from topovlm.runtime.sessions import RunsOn


def measure_board(
    remote: Remote, folder: str | Path, request: ProfileRequest, progress: RoundProgress | None = None
) -> Profile:
    """Profile of a board, its `target` the board's id where known; otherwise as `probe.measure_local`."""
    began, rules = perf_counter(), request.rules
    ready = remote.prepare(request.run)
    local = Preparer(folder)
    manifest = local.manifest
    wanted = request.run.variant
    name = manifest.resolve("plain" if ready.backend.native and wanted == "auto" else wanted)
    base, workloads = profile_workloads(local, request)
    order = sorted(workloads)
    with tempfile.TemporaryDirectory(prefix="topovlm-slices-", dir=request.scratch) as room:
        folders: dict[str, str | Path] = {str(manifest.layers): folder}
        for layers in request.layer_counts or default_layer_counts(manifest.layers):
            folders[str(layers)] = slice_export(folder, layers, Path(room) / str(layers), name)
        cells = {f"{depth}@{tokens}": (int(depth), tokens) for depth in folders for tokens in order}
        cases = [
            Case(name=case, engine=str(layers), prompts=(order.index(tokens),))
            for case, (layers, tokens) in cells.items()
        ]
        prompts = [workloads[tokens].prompts[0] for tokens in order]
        load = Load(prompts, cases, base.new_tokens, order.index(base.prefill_tokens))
        parcel = pack(folders, load, rules, ready.backend, replace(ready.run, variant=name))
        engines = {case.name: case.engine for case in cases}

        def known(runs: Runs) -> bool:
            return precise(sweep_samples(runs, cells), rules.precision)

        rounds = Rounds(Asked(engines, base.new_tokens), rules.min_rounds, known, progress, rules.max_rounds)

        def partial(environment: Environment, warnings: list[str]) -> PartialSweep:
            return PartialSweep(
                rounds=rounds.count,
                samples=rounds.runs,
                environment=environment,
                warnings=tuple(warnings),
            )

        campaign = remote.campaign(ready, parcel, rounds, rules, partial)
    run = rounds.sweep(cells)
    watched = Watched(
        sweep=run,
        environment=campaign.environment,
        telemetry=Looks(
            before=ready.look.telemetry.brief(),
            after=campaign.after.telemetry.brief(),
        ),
        energy=None,
        doubts=(*campaign.doubts, *pace_doubts(run, campaign.environment)),
    )
    memory = memory_line({int(depth): footprint for depth, footprint in rounds.footprints.items()})
    profile = document(_subject(ready, manifest, name, rounds), base, watched, memory)
    look = ready.look
    return structs.replace(
        profile,
        device=DeviceFacts(model=look.device_model, compatible=look.compatible, l4t=look.l4t),
        seconds=perf_counter() - began,
    )


def _subject(ready: Ready, manifest: Manifest, variant: str, rounds: Rounds) -> Subject:
    """The dense model as it was open on the board."""
    loaded, backend = rounds.loaded[str(manifest.layers)], ready.backend
    return Subject(
        target=target_of(ready.look) or UNRECOGNISED,
        runtime=backend.name if backend.native else RunsOn.provider(loaded.providers["decoder"][0]).runtime,
        dtype=dtype_of(variant, loaded.dtype),
        variant=variant,
        threads=loaded.threads,
        layers=manifest.layers,
        weights=manifest.parts(variant)["decoder"],
        config_sha256=manifest.file.source_config_sha256,
    )
