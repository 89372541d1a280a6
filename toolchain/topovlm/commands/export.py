"""Export a checkpoint to ONNX, checked number by number against torch.

The folder loads in ONNX Runtime, in transformers.js and in `topovlm run`. int8 and int4 quantise the decoder
of an fp32 export: what that costs is measured and said.
"""

from __future__ import annotations

import argparse

from topovlm.commands.common import add_options, config_of
from topovlm.console import Display, print_json, say
from topovlm.records import plain
from topovlm.units import format_bytes

_OPTIONS = ("model", "dtype", "output", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    config = config_of(args)

    from topovlm.pipeline.alone import export_model

    record = export_model(config, Display())
    if args.json:
        print_json(plain(record))
        return 0
    size = format_bytes(sum(file.size_bytes for file in record.files))
    worst = max(row.max_logit_error for row in record.parity)
    say(f"  {len(record.files)} files, {size}, in {config.output}; worst logit error {worst:.2g} (measured)")
    for limit in record.limits:
        say(f"  note: {limit}")
    return 0
