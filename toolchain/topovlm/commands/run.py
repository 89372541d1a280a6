"""Ask an exported model about pictures and videos, with ONNX Runtime and nothing else.

The folder is one that `topovlm deploy` or `topovlm export` wrote (RUN/onnx), or a run directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from topovlm.console import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="FOLDER", help="exported folder, or run directory")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="picture; may repeat")
    parser.add_argument("--video", action="append", default=[], metavar="FILE", help="clip; may repeat")
    parser.add_argument(
        "--frames", default="linspace:8", metavar="RULE", help="of a clip: 8, linspace:8, fps:2 ..."
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="question or instruction")
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer")
    parser.add_argument("--variant", default="auto", metavar="NAME", help="decoder graph: auto, plain, fused")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all available)")


def run(args: argparse.Namespace) -> int:
    from topovlm.videos.clip import Clip
    from topovlm.videos.rules import FrameRule

    folder, rule = exported_folder(args.model), FrameRule.parse(args.frames)
    visuals = [*args.image, *(Clip(Path(video), rule) for video in args.video)]
    if args.json:
        from topovlm.runtime.engine import Engine
        from topovlm.runtime.run import as_json

        engine = Engine(folder, variant=args.variant, threads=args.threads)
        print_json(as_json(folder, engine.generate(visuals, args.prompt, args.max_new_tokens)))
    else:
        from topovlm.runtime.run import run_cli

        run_cli(
            folder,
            visuals,
            args.prompt,
            args.max_new_tokens,
            variant=args.variant,
            threads=args.threads,
        )
    return 0


def exported_folder(given: Path) -> Path:
    """The exported folder itself, or the one of a run directory."""
    return given / "onnx" if (given / "onnx" / "onnx").is_dir() else given
