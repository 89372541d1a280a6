"""Export a checkpoint to ONNX, checked number by number against torch.

The folder loads in ONNX Runtime, in transformers.js and in `topovlm run`.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import add_options, config_of, new_folder, print_json
from topovlm.config import exported_dtype
from topovlm.console import Display, library_chatter, say
from topovlm.units import format_bytes

_OPTIONS = ("model", "dtype", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)
    folder = new_folder(config.output)

    import tempfile
    from pathlib import Path

    from topovlm.exporters.onnx.export import export_onnx
    from topovlm.pipeline.sources import find_model

    source = find_model(config.model)
    dtype = exported_dtype(config, "fp32")
    with (
        Display().stage("export"),
        tempfile.TemporaryDirectory(prefix="topovlm-") as scratch,
        library_chatter(Path(scratch) / "libraries.log"),
    ):
        report = export_onnx(source.folder, folder, dtype=dtype)
    if args.json:
        print_json(report.to_dict())
    else:
        worst = max(result.max_logit_error for result in report.parity)
        size = format_bytes(sum(file.size_bytes for file in report.files))
        say(f"  {len(report.files)} files, {size}, in {folder}; worst logit error {worst:.2g} (measured)")
    return 0
