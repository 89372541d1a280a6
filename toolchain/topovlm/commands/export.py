"""Export a checkpoint to ONNX, checked number by number against torch.

The folder loads in ONNX Runtime, in transformers.js and in `topovlm run`. int8 and int4 quantise the decoder
of an fp32 export: what that costs is measured and said.
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

    from topovlm.exporters import EXPORTERS, MEASURED
    from topovlm.exporters.protocol import ExportRequest
    from topovlm.pipeline.sources import find_model
    from topovlm.records import plain

    exporter = EXPORTERS[MEASURED]
    source = find_model(config.model)
    request = ExportRequest(model_dir=source.folder, dtype=exported_dtype(config, "fp32", exporter.dtypes))
    exporter.check(request)
    with (
        Display().stage("export") as progress,
        tempfile.TemporaryDirectory(prefix="topovlm-") as scratch,
        library_chatter(Path(scratch) / "libraries.log"),
    ):
        record = exporter.export(request, folder, progress)
    if args.json:
        print_json({"folder": str(folder), **plain(record)})
    else:
        size = format_bytes(sum(file.size_bytes for file in record.files))
        worst = max(row.max_logit_error for row in record.parity)
        say(f"  {len(record.files)} files, {size}, in {folder}; worst logit error {worst:.2g} (measured)")
        for limit in record.limits:
            say(f"  note: {limit}")
    return 0
