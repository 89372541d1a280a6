"""Spoil every kind of file that users hand in, by a seed, and see how the real commands end:

    python -m benchmarks.fuzz --minutes 10 [--seed N] [--kind NAME] [--fresh] [--keep DIR] [--json]

A case is a kind of file, a seed and a command. It fails when the command ends otherwise than with a
documented exit code and a sentence: with a traceback, an internal error, a signal; when it takes 10 s of
processor time or 1 GB of memory more than the undamaged file takes; when it prints control characters; or
when it leaves temporary files behind. Past failures lie in benchmarks/data/fuzz and are tried first.
Commands are forked from a process that has imported what they import; each failure is tried again in a new
interpreter, and one case in fifty runs there at once. Exit code 1 when any case failed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.fuzzing.kinds import KINDS, Kind, example, make_examples, weight
from benchmarks.fuzzing.room import Case, Plain, Room

CORPUS = Path(__file__).resolve().parent / "data" / "fuzz"
_FRESH_EVERY = 50


@dataclass(frozen=True)
class Failure:
    """What went wrong with a case, and what a new interpreter makes of it."""

    kind: str
    seed: str
    command: str
    why: str
    last: str
    again: str = ""


@dataclass
class Tally:
    """Counts of one kind."""

    tried: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


def cases(kinds: list[Kind], seed: int, worker: int, workers: int, examples: Path) -> Iterator[Case]:
    """Cases without end; every worker takes its own."""
    number = worker
    pool = [kind for kind in kinds for _ in range(weight(kind))]
    while True:
        kind = Random(f"{seed}/{number}").choice(pool)
        yield made(kind, f"{seed}/{number}", examples)
        number += workers


def made(kind: Kind, seed: str, examples: Path) -> Case:
    """The case of a kind and a seed: always the same."""
    rng = Random(f"{kind.name}/{seed}")
    command = rng.choices(kind.commands, kind.weights)[0]
    return Case(kind, seed, command, kind.spoil(rng, example(kind, examples)))


def corpus(kinds: list[Kind]) -> list[Case]:
    """Past failures: CORPUS/KIND/N-NAME, tried with each command of the kind."""
    found = []
    for kind in kinds:
        for path in sorted((CORPUS / slug(kind)).glob("*")):
            found += [Case(kind, path.name, command, path.read_bytes()) for command in kind.commands]
    return found


def slug(kind: Kind) -> str:
    """A kind's name as that of a folder."""
    return re.sub(r"[^a-z0-9_.]+", "-", kind.name.lower())


class Fuzz:
    """The workers, their counts and failures."""

    def __init__(self, keep: Path | None) -> None:
        self.tallies = {kind.name: Tally() for kind in KINDS}
        self.failures: list[Failure] = []
        self.plain: Plain = {}
        self.keep = keep
        self._lock = threading.Lock()

    def one(self, room: Room, case: Case, *, fresh: bool) -> None:
        """Run a case, count it, and keep what failed."""
        ended, text, errors = room.run(case, fresh=fresh)
        plain = self.plain[case.kind.base, case.command]
        why = room.why(ended, text, errors, plain)
        again = ""
        if why:
            second = room.run(case, fresh=True)
            again = room.why(*second, plain) or f"exit code {second[0].code}"
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "")
        with self._lock:
            tally = self.tallies[case.kind.name]
            tally.tried += 1
            tally.codes["stopped" if ended.stopped else str(ended.code)] += 1
            if why:
                tally.failed[why] += 1
                words = " ".join(case.command)
                self.failures.append(
                    Failure(case.kind.name, case.seed, words, why, ascii(last[-300:]), again)
                )
                if self.keep:
                    place = self.keep / slug(case.kind)
                    place.mkdir(parents=True, exist_ok=True)
                    (place / case.seed.replace("/", "-")).write_bytes(case.content)

    def work(self, room: Room, past: list[Case], new: Iterable[Case], until: float, fresh: bool) -> None:
        for case in past:
            self.one(room, case, fresh=not case.kind.slow)
        for number, case in enumerate(new):  # without end
            if time.monotonic() > until:
                return
            self.one(room, case, fresh=fresh or number % _FRESH_EVERY == 0)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{key}: {n}" for key, n in sorted(counts.items())) or "0"


def as_markdown(fuzz: Fuzz, minutes: float) -> str:
    """One line per kind of file, and one per failure."""
    lines = ["| kind of file | tried | exit codes | failed |", "|---|---|---|---|"]
    for name, tally in fuzz.tallies.items():
        if tally.tried:
            lines.append(f"| {name} | {tally.tried} | {_listed(tally.codes)} | {_listed(tally.failed)} |")
    for failure in fuzz.failures:
        lines.append(
            f"FAILED {failure.kind} seed {failure.seed}: {failure.why} (again: {failure.again}); "
            f"`{failure.command}`: {failure.last}"
        )
    tried = sum(tally.tried for tally in fuzz.tallies.values())
    failed: Counter[str] = Counter()
    for tally in fuzz.tallies.values():
        failed += tally.failed
    named = ("traceback", "over 10 s", "over 1 GB")
    counts = ", ".join(f"{name}: {failed[name]}" for name in named)
    lines.append(f"{tried} tried in {minutes:.1f} minutes: {counts}, {len(fuzz.failures)} failed in all")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long new cases are made (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default 0)")
    parser.add_argument("--kind", action="append", help="only kinds with this in their name")
    parser.add_argument("--case", metavar="SEED", help="one case: the seed of a failure, with its --kind")
    parser.add_argument("--workers", type=int, default=2, help="commands side by side (default 2)")
    parser.add_argument("--fresh", action="store_true", help="every command in a new interpreter")
    parser.add_argument("--keep", type=Path, help="keep the files that failed here")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    kinds = [kind for kind in KINDS if not args.kind or any(word in kind.name for word in args.kind)]
    if not kinds:
        parser.error(f"--kind: choose among {', '.join(kind.name for kind in KINDS)}")
    fuzz = Fuzz(args.keep)
    with tempfile.TemporaryDirectory(prefix="topovlm-fuzz-") as folder:
        root = Path(folder)
        examples = root / "examples"
        examples.mkdir()
        make_examples(examples, kinds)
        rooms = [Room(root / f"worker-{number}", examples) for number in range(args.workers)]
        modules = rooms[0].learn(kinds, fuzz.plain)
        for room in rooms[1:]:
            room.load(modules)
        began = time.monotonic()
        past = [made(kind, args.case, examples) for kind in kinds] if args.case else corpus(kinds)
        until = began + 60 * (0 if args.case else args.minutes)
        work = []
        for number, room in enumerate(rooms):
            new = cases(kinds, args.seed, number, len(rooms), examples)
            work.append(partial(fuzz.work, room, past[number :: len(rooms)], new, until, args.fresh))
        _side_by_side(work)
        minutes = (time.monotonic() - began) / 60
        for room in rooms:
            room.close()
    if args.json:
        tallies = {
            name: {"tried": tally.tried, "codes": dict(tally.codes), "failed": dict(tally.failed)}
            for name, tally in fuzz.tallies.items()
            if tally.tried
        }
        failures = [asdict(failure) for failure in fuzz.failures]
        print(
            json.dumps(
                {"seed": args.seed, "minutes": minutes, "kinds": tallies, "failures": failures}, indent=1
            )
        )
    else:
        print(as_markdown(fuzz, minutes))
    return 1 if fuzz.failures else 0


def _side_by_side(calls: Sequence[Callable[[], None]]) -> None:
    """Run calls in threads of their own; what one of them raises is raised here."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


if __name__ == "__main__":
    sys.exit(main())
