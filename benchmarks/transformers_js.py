"""Exported folders in transformers.js under Node against torch, greedy token by token:

    python -m benchmarks.transformers_js RUN/baseline reference RUN/onnx RUN/model [--count 3 --json]

Arguments come in pairs: an exported folder, and the checkpoint it came from (`reference` is the one that
ships). Pictures and questions are held-out ones of the reference data, one picture each. Exits 4 when a token
differs, 5 without Node or its packages.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.exporters.answers import greedy
from tests.node import client

from topovlm.reference import model_dir
from topovlm.reference.data import samples

CATEGORIES = ("describe", "diagram", "comparison")  # a long answer, a word, a choice; one picture each


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformers_js", description=__doc__)
    parser.add_argument("paths", nargs="+", metavar="EXPORT MODEL")
    parser.add_argument("--count", type=int, default=3, help="pictures")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if len(args.paths) % 2:
        parser.error("give pairs: exported folder, checkpoint")
    if (lack := client.missing()) is not None:
        print(f"error: {lack}", file=sys.stderr)
        return 5
    pairs = [(s.load_images()[0], s.prompt) for s in samples("test", args.count, args.seed, CATEGORIES)]
    rows = []
    for folder, model in zip(args.paths[::2], args.paths[1::2], strict=True):
        checkpoint = model_dir() if model == "reference" else Path(model)
        expected = greedy(checkpoint, pairs, args.new_tokens)
        with tempfile.TemporaryDirectory() as scratch:
            got = client.ask(Path(folder), pairs, args.new_tokens, Path(scratch))
        for (_, prompt), wanted, seen in zip(pairs, expected, got, strict=True):
            same = wanted == seen
            rows.append(
                {"folder": folder, "prompt": prompt, "torch": wanted, "transformers_js": seen, "same": same}
            )
    if args.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            mark = "same" if row["same"] else "DIFFERENT"
            print(f"{mark}  {row['folder']}  {len(row['torch'])} tokens  {row['prompt']!r}")
        agreed = sum(row["same"] for row in rows)
        print(f"{agreed} of {len(rows)} answers are the same, token by token (measured)")
    return 0 if all(row["same"] for row in rows) else 4


if __name__ == "__main__":
    sys.exit(main())
