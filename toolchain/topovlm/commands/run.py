"""Ask an exported model about pictures, with ONNX Runtime and nothing else.

The folder is one that `topovlm deploy` or `topovlm export` wrote (RUN/onnx), or a run directory.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from topovlm.commands.common import print_json
from topovlm.console import say
from topovlm.units import format_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="FOLDER", help="exported folder, or run directory")
    parser.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="picture; may repeat"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="question or instruction")
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (default 64)"
    )
    parser.add_argument(
        "--variant", default="auto", metavar="NAME", help="decoder graph: auto, plain or fused"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores available)")


def run(args: argparse.Namespace) -> int:
    from topovlm.runtime.engine import Engine

    folder = args.model / "onnx" if (args.model / "onnx" / "onnx").is_dir() else args.model
    engine = Engine(folder, variant=args.variant, threads=args.threads)
    answer = engine.generate(args.image, args.prompt, args.max_new_tokens)
    if args.json:
        print_json(
            {**asdict(answer), "ttft_ms": answer.ttft_ms, "total_ms": answer.total_ms, "kind": "measured"}
        )
    else:
        print(answer.text)
        say(
            f"  first token {format_ms(answer.ttft_ms)}, whole answer {format_ms(answer.total_ms)} (measured here)"
        )
    return 0
