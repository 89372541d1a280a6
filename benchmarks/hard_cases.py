"""Inputs that went wrong once, each through the real command: one line per case and the count.

    python -m benchmarks.hard_cases [--json]

Cases are the files of tests/cases: f.. are accidents of the field, a.. are attacks. One passes when all
of its tests do (skipped ones are counted apart). Exit code 1 when one fails or a case of the list below
has no file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_FILE = re.compile(r"test_(?P<id>[fa]\d\d)_(?P<name>\w+)\.py")
# The conditions that were found, by number; what each one is says the docstring of its file.
FIELD = (1, 3, 5, 6, 7, 9, 10, 11, 13, 14, 17, 18, 20, 26, 27, 29, 33)
ATTACKS = (1, 2, 3, 4, 6, 8, 10, 12, 13, 16, 17, 18)
EXPECTED = tuple(f"f{number:02}" for number in FIELD) + tuple(f"a{number:02}" for number in ATTACKS)


@dataclass(frozen=True)
class Case:
    """A case and how many of its tests ended in which way."""

    id: str
    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def fine(self) -> bool:
        return self.passed > 0 and self.failed == 0


class _Count:
    """A pytest plug-in that counts outcomes by file."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Set-up and tear-down count when they go wrong.
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[Path(report.nodeid.partition("::")[0]).name][report.outcome] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes[Path(report.nodeid).name]["failed"] += 1


def run() -> list[Case]:
    """Run tests/cases; every case that is expected or there, in the order of the ids."""
    count = _Count()
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main([str(ROOT / "tests" / "cases"), "-q", f"--rootdir={ROOT}"], plugins=[count])
    names: dict[str, str] = {}
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted((ROOT / "tests" / "cases").glob("test_*.py")):
        found = _FILE.fullmatch(path.name)
        if found:
            names.setdefault(found["id"], found["name"])
            totals[found["id"]] += count.outcomes[path.name]
    ids = [*EXPECTED, *(name for name in names if name not in EXPECTED)]
    return [Case(name, names.get(name, "no test"), **dict(totals[name])) for name in ids]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hard_cases", description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    cases = run()
    fine = sum(case.fine for case in cases)
    if args.json:
        whole = {"cases": [asdict(case) for case in cases], "passed": fine, "of": len(cases)}
        print(json.dumps(whole, indent=1))
    else:
        for case in cases:
            words = "passes" if case.fine else "FAILS"
            tests = f"{case.passed} passed, {case.failed} failed, {case.skipped} skipped"
            print(f"{case.id} {case.name}: {words} ({tests})")
        print(f"{fine} of {len(cases)} cases pass")
    return 0 if fine == len(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
