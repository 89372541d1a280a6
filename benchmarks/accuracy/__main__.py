"""Which way to choose layers keeps most of a model, on models that nobody trained for it:

    python -m benchmarks.accuracy scorers [--subject smollm2-text] [--seeds 0,1,2] [--room DIR] [--write]
    python -m benchmarks.accuracy objectives | previews | reads | repairs | massive | choices | healing [...]
    python -m benchmarks.accuracy page

`scorers`: every scorer alone, with every cloud and number of neighbours (`--costly`: all of them).
`objectives`: by what a judge should choose, and on how many samples; `previews`: whether it should see sets
as they are cut, or with their cuts patched. `reads`: zigzag of what the answer reads. `repairs`: what the
ways to repair are worth; `massive`: what becomes of a repair that moves tokens of massive activations.
`choices`: what a deployment would choose (search, finals, repair); `healing`: what these gain by ten minutes
of it. Nothing that measures has chosen.
`page` writes docs/accuracy.md of what is kept.
`--room`: what was seen and measured is kept there, and taken from there. `--write` keeps the tables in
benchmarks/data/accuracy.json, and what it holds of other subjects.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.accuracy import page
from benchmarks.accuracy.choices import PRODUCT, compare_choices
from benchmarks.accuracy.healing import compare_healing
from benchmarks.accuracy.judges import compare_objectives, compare_previews
from benchmarks.accuracy.lvlm import Lvlm
from benchmarks.accuracy.page import cell
from benchmarks.accuracy.reads import compare_reads
from benchmarks.accuracy.repairs import compare_massive, compare_repairs
from benchmarks.accuracy.scorers import compare_scorers
from benchmarks.accuracy.subjects import SUBJECTS
from topovlm.machine.environment import cpu_name, versions

RESULTS = Path(__file__).resolve().parents[1] / "data" / "accuracy.json"
_OTHERS = {
    "objectives": compare_objectives,
    "previews": compare_previews,
    "reads": compare_reads,
    "repairs": compare_repairs,
    "massive": compare_massive,
    "choices": compare_choices,
    "healing": compare_healing,
}
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("scorers", *_OTHERS, "page"))
    parser.add_argument("--subject", choices=SUBJECTS, default="smollm2-text")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="of layers that go")
    parser.add_argument("--costly", action="store_true", help="also scorers with partial passes per layer")
    parser.add_argument("--few", action="store_true", help="scorers: fewer numbers of neighbours")
    parser.add_argument("--questions", type=int, metavar="N", help="of a model with pictures that measure")
    parser.add_argument("--no-formats", action="store_true", help="choices: without int8 and int4")
    parser.add_argument("--room", type=Path)
    parser.add_argument("--write", action="store_true", help=f"keep the results in {RESULTS.name}")
    args = parser.parse_args(argv)
    if args.what == "page":
        print(*page.write(json.loads(RESULTS.read_text()), PRODUCT), sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="topovlm-accuracy-") as scratch:
        room = (args.room or Path(scratch)) / args.subject
        room.mkdir(parents=True, exist_ok=True)
        subject = SUBJECTS[args.subject](room)
        if args.questions and isinstance(subject, Lvlm):
            subject.asked = args.questions
        seeds = [int(seed) for seed in args.seeds.split(",")]
        counts = sorted({max(1, round(float(share) * subject.layers)) for share in args.shares.split(",")})
        if args.what == "scorers":
            found = compare_scorers(subject, room, seeds, counts, costly=args.costly, few=args.few)
        elif args.what == "choices" and args.no_formats:
            found = compare_choices(subject, room, seeds, counts, formats=())
        else:
            found = _OTHERS[args.what](subject, room, seeds, counts)
    judging = args.what in ("objectives", "previews")
    print("\n".join(page.gaps(found)) if judging else as_markdown(found))
    if args.write:
        _keep(args.subject, args.what, found)
    return 0


def as_markdown(found: dict[str, Any]) -> str:
    """One row per method, best first: the loss of each number of layers."""
    measures, counts = list(found["dense"]), [*map(str, found["counts"]), "mean"]
    lines = []
    for measure in measures:
        lines += [f"{measure}, dense {found['dense'][measure]:.3f}: what is lost", ""]
        lines += ["| method | " + " | ".join(counts) + " |", "|---" * (len(counts) + 1) + "|"]
        rows = sorted(found["losses"].items(), key=lambda row: row[1]["mean"][measure]["mean"])
        for name, losses in rows:
            lines.append(f"| {name} | " + " | ".join(cell(losses[count][measure]) for count in counts) + " |")
        lines.append("")
    for form, rivals in found.get("paired", {}).items():
        for rival, losses in rivals.items():
            cells = ", ".join(f"{count}: {cell(losses[count][measures[0]])}" for count in counts)
            lines.append(f"{form} less {rival} ({measures[0]}; below 0: it is better): {cells}")
    if "ranks" in found:
        rows = sorted(found["ranks"].items(), key=lambda row: -row[1]["mean"])
        lines += ["", "| scorer | rank correlation with what single layers cost less |", "|---|---|"]
        lines += [f"| {name} | {cell(values)} |" for name, values in rows]
    return "\n".join(lines)


def _keep(subject: str, what: str, found: dict[str, Any]) -> None:
    held: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    place = {"cpu": cpu_name(), "versions": versions(("torch", "transformers", "numpy"))}
    held.setdefault(subject, {})[what] = {**place, **found}
    RESULTS.write_text(json.dumps(_rounded(held), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Five digits: more is noise, and megabytes of it."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    raise SystemExit(main())
