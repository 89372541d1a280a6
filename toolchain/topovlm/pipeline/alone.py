"""One step of the chain by itself: score, prune, export or profile a model without a deployment."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from topovlm.artifacts import check_output, move_into_place, staged_folder
from topovlm.config import Config, exported_dtype
from topovlm.console import Display, library_chatter
from topovlm.errors import InputError, explain
from topovlm.machine.host import memory_bound
from topovlm.pipeline.context import Context
from topovlm.pipeline.final_names import called
from topovlm.pipeline.preflight import refuse_export, refuse_full_disk
from topovlm.pipeline.record import PruneRecord
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import find_model
from topovlm.pipeline.target import resolve_target
from topovlm.predict.target import LOCAL
from topovlm.workers.pool import open_pool, released

if TYPE_CHECKING:
    from topovlm.checkpoint.files import Checkpoint
    from topovlm.checkpoint.live import Live
    from topovlm.checkpoint.outcome import SurgeryReport
    from topovlm.choose.record import Scores
    from topovlm.exporters.protocol import ExportRecord
    from topovlm.predict.profile import Profile

TORCH = "torch"


@contextlib.contextmanager
def scratch_run(config: Config, display: Display) -> Iterator[Context]:
    """The stages of a deployment in a folder that goes away afterwards, on this machine or --device."""
    here = config if config.target else replace(config, target=LOCAL)
    target = resolve_target(replace(here, device=LOCAL))
    with (
        memory_bound(config.memory_bytes),
        tempfile.TemporaryDirectory(prefix="topovlm-") as folder,
        RunDir(Path(folder), display).locked() as run,
        library_chatter(run.root / "logs" / "libraries.log"),
        released(open_pool(config.workers, display.note)) as pool,
    ):
        yield Context(here, find_model(config.model), target, run, pool=pool)


def score_model(config: Config, display: Display) -> Scores:
    """Every decoder layer's score by every scorer. Raises `InputError`."""
    from topovlm.pipeline import choosing

    with scratch_run(replace(config, target=LOCAL), display) as context:
        choosing.check_inputs(context)
        return choosing.score(context).value


def prune_model(config: Config, display: Display, *, verify: bool = True) -> PruneRecord:
    """The checkpoint without the layers of --drop in a new folder, verified. Raises `InputError`,
    `VerificationError`."""
    from topovlm.checkpoint.surgery import prune_checkpoint

    if config.drop is None:
        raise InputError(explain("--drop", None, "is missing", "Name layers, e.g. --drop 12,13,20-24"))
    folder, source = new_folder(config.output), find_model(config.model)
    refuse_full_disk(folder, source.checkpoint.weight_bytes)
    what = "prune and verify" if verify else "prune"
    with memory_bound(config.memory_bytes), display.stage(what) as progress:
        # What is wrong with the source is said of the source, before anything is written.
        dense = _loaded(source.checkpoint) if verify else None
        with staged_folder(folder) as work:
            written = work / "model"
            surgery = prune_checkpoint(source.checkpoint, written, config.drop, progress=progress)
            with called(written, folder):
                record = _verified(surgery, written, source.folder, config.drop, dense)
            for path in list(written.iterdir()):
                move_into_place(path, work / path.name)
            written.rmdir()
    return structs.replace(record, surgery=structs.replace(surgery, folder=str(folder)))


def _loaded(checkpoint: Checkpoint) -> Live:
    """The dense model, which the slim one is compared with. Refuses what cannot be verified later."""
    from topovlm.checkpoint.live import load
    from topovlm.checkpoint.loading import TooLargeError

    try:
        return load(checkpoint)
    except TooLargeError as error:
        remedy = f"{error.remedy}, or prune unverified with --no-verify"
        raise InputError(explain(error.field, error.value, error.rule, remedy)) from None


def _verified(
    surgery: SurgeryReport, folder: Path, source: Path, drop: Sequence[int], dense: Live | None
) -> PruneRecord:
    from topovlm.checkpoint.verify import verify_checkpoint, verify_files

    if dense is not None:
        return PruneRecord(surgery=surgery, verified=verify_checkpoint(folder, dense=dense, dropped=drop))
    return PruneRecord(surgery=surgery, files_compared=verify_files(folder, source, drop))


def export_model(config: Config, display: Display) -> ExportRecord:
    """The measured exporter's folder of a checkpoint. Raises `InputError`, `VerificationError`."""
    from topovlm.exporters import EXPORTERS, MEASURED
    from topovlm.exporters.protocol import ExportRequest

    exporter, folder = EXPORTERS[MEASURED], new_folder(config.output)
    source = find_model(config.model)
    request = ExportRequest(model_dir=source.folder, dtype=exported_dtype(config, "fp32", exporter.dtypes))
    exporter.check(request)
    with memory_bound(config.memory_bytes):
        refuse_export(source.checkpoint, request.dtype, folder)
    with (
        memory_bound(config.memory_bytes),
        display.stage("export") as progress,
        tempfile.TemporaryDirectory(prefix="topovlm-") as scratch,
        library_chatter(Path(scratch) / "libraries.log"),
    ):
        return exporter.export(request, folder, progress)


def profile_model(config: Config, display: Display, provider: str | None = None) -> Profile:
    """This machine, or the board of --device, timed with the model. `provider`: an execution provider of ONNX
    Runtime, or `torch` for the checkpoint itself. Raises `InputError`, `MissingToolError`."""
    from topovlm.measure import microbench
    from topovlm.measure.torch_profile import measure_torch
    from topovlm.pipeline import exporting
    from topovlm.pipeline.measuring import timing_progress
    from topovlm.pipeline.planning import profile_request
    from topovlm.pipeline.prompt_length import with_prompt_length
    from topovlm.pipeline.stages import BASELINE
    from topovlm.records import plain
    from topovlm.runtime.sessions import RunsOn, provider_names

    here, on_torch = config.device == LOCAL, provider == TORCH
    exported_dtype(config, "fp32")  # refused before anything runs
    if on_torch and not here:
        rule = "times this machine; a board runs exported graphs"
        raise InputError(explain("--provider", TORCH, rule, "Leave --provider or --device out"))
    names = (provider,) if provider and not on_torch else None
    providers = tuple(provider_names(names)) if here else names
    # ONNX Runtime's fused attention is fast in half precision on a GPU, and slow without one.
    half = here and providers is not None and RunsOn.provider(providers[0]).on_gpu and config.dtype == "auto"
    asked = replace(config, dtype="fp16" if half else "auto" if on_torch else config.dtype)
    with scratch_run(replace(asked, target=LOCAL), display) as run, run.device() as device:
        context = with_prompt_length(run)
        exporting.export_dense(context)
        context.dense.release()
        folder, request = context.run.root / BASELINE, profile_request(context, providers=providers)
        with display.stage("profile") as progress:
            shown = timing_progress(request.rules, progress)
            if on_torch:
                return measure_torch(context.source.folder, folder, config.dtype, request, shown)
            measured = device.profile(folder, request, shown)
        if not here:
            return measured
        with display.stage("machine"):
            tokens = (1, measured.workload.prefill_tokens)
            machine = microbench.measure_machine(folder, tokens=tokens, run=request.run)
    return structs.replace(measured, machine=plain(machine))


def new_folder(path: Path) -> Path:
    """An output folder that is not there yet, or empty: nothing that somebody keeps there is replaced."""
    check_output(path)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(explain("--output", str(path), "is not empty", "Choose a new folder with -o"))
    return path
