"""SmolLM2-LVLM, the second benchmark model: see `benchmarks.smol`.

    python -m benchmarks.smol train --out RUN [--decoder DIR] [--steps N]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smol", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    train = commands.add_parser("train")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--decoder", type=Path)
    train.add_argument("--steps", type=int)
    args = parser.parse_args(argv)
    from benchmarks.smol.training import Recipe, train as run

    recipe = Recipe() if args.steps is None else replace(Recipe(), steps=args.steps)
    run(recipe, args.decoder, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
