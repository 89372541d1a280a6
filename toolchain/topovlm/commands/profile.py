"""Time this machine, or a board over ssh, with the model itself: by decoder layers and prompt length.

The profile serves `topovlm plan --target local --profile FILE` without measuring again. Figures of a machine
that throttled or drifted are shown, and written to a file, but not filed in a folder of profiles.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.artifacts import check_output, check_output_file
from topovlm.commands.common import add_device, add_options, config_of, print_json, scratch_run
from topovlm.config import exported_dtype
from topovlm.console import Display, say, table
from topovlm.errors import InputError, explain
from topovlm.units import format_ms

if TYPE_CHECKING:
    from topovlm.predict.profile import Profile

TORCH = "torch"
_OPTIONS = ("model", "images", "prompt_tokens", "new_tokens", "seed", "threads", "measure_time", "dtype")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)
    add_device(parser)
    parser.add_argument("-o", "--output", dest="file", metavar="PATH", help="file, or folder to file it in")
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help="where ONNX Runtime runs: cpu or cuda (default: cpu here, a board's GPU where it has one), "
        "or torch: the checkpoint itself on torch, on this machine's GPU where it has one",
    )


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.file:  # after minutes of work it is too late to refuse
        wanted = Path(args.file)
        (check_output if wanted.is_dir() else check_output_file)(wanted)

    from msgspec import structs

    from topovlm.measure import microbench
    from topovlm.measure.device import LOCAL, open_device
    from topovlm.measure.settings import ProfileRequest, RunSettings
    from topovlm.pipeline import exporting
    from topovlm.pipeline.measuring import timed_tokens, timing_progress, timing_rules
    from topovlm.records import plain
    from topovlm.runtime.sessions import RunsOn, provider_names

    display, here = Display(), args.board == LOCAL
    on_torch = args.provider == TORCH
    if on_torch and not here:
        rule = "times this machine; a board runs exported graphs"
        raise InputError(explain("--provider", TORCH, rule, "Leave --provider or --device out"))
    providers = [args.provider] if args.provider and not on_torch else None
    if here:
        providers = provider_names(providers)
    device = open_device(args.board, say=display.note)
    # ONNX Runtime's fused attention has kernels for half precision only on a GPU.
    on_gpu = here and providers and RunsOn.provider(providers[0]).on_gpu
    dtype = exported_dtype(config, "fp16" if on_gpu else "fp32")
    rules = timing_rules(config)
    with scratch_run(config, display) as context, device:
        exporting.export_dense(context, dtype)
        folder = context.run.root / exporting.BASELINE
        with display.stage("profile") as progress:
            settings = RunSettings(threads=config.threads, providers=tuple(providers) if providers else None)
            request = ProfileRequest(
                images=config.images,
                prompt_tokens=config.prompt_tokens,
                new_tokens=timed_tokens(config),
                rules=rules,
                run=settings,
            )
            shown = timing_progress(rules, progress)
            if on_torch:
                from topovlm.measure.torch_profile import measure_torch

                measured = measure_torch(context.source.folder, folder, config.dtype, request, shown)
            else:
                measured = device.profile(folder, request, shown)
        if here and not on_torch:
            with display.stage("machine"):
                rates = microbench.measure_machine(
                    folder, tokens=(1, measured.workload.prefill_tokens), run=settings
                )
            measured = structs.replace(measured, machine=plain(rates))
    if args.json:
        print_json(plain(measured))
    else:
        _show(measured, args.board)
    if args.file:
        _file(measured, Path(args.file))
    return 0


def _file(measured: Profile, path: Path) -> None:
    """Into a folder of profiles under its own name, or into the file that was named."""
    from topovlm.predict.profile import save_profile
    from topovlm.records import write

    if path.is_dir():
        say(f"wrote {save_profile(measured, path)}")
    else:
        write(path, measured)


def _show(measured: Profile, board: str) -> None:
    """The lines of the profile, the machine beside it, and what to doubt."""
    from topovlm.measure import microbench
    from topovlm.measure.device import LOCAL
    from topovlm.records import convert

    rows = [
        (name, format_ms(phase.intercept_ms), format_ms(phase.slope_ms_per_layer))
        for name, phase in measured.phases.items()
    ]
    where = "this machine" if board == LOCAL else f"{board} ({measured.target}, {measured.mode})"
    table(f"measured on {where}", ("phase", "fixed", "per decoder layer"), rows)
    if measured.machine is not None:
        rates = convert(measured.machine, microbench.MachineRates, field="machine", name=measured.target)
        say(microbench.table(rates))
    for warning in measured.warnings:
        say(f"  note: {warning}")
