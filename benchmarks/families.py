"""Every family through the whole chain: the support matrix.

    python -m benchmarks.families                 # all families, all checks
    python -m benchmarks.families gemma3 qwen3_vl --checks export,run
    python -m benchmarks.families --write         # store the results, and docs/models.md made of them

Tiny random checkpoints with real processors (`tests.tiny_families`), each check with an oracle that shares no
code with what it checks (`benchmarks.family_checks`). Exit code 1 when a check fails. One family at a time,
in a process of its own: nothing that one family loaded serves another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

STORED = Path(__file__).parent / "data" / "families.json"
PAGE = Path(__file__).parents[1] / "docs" / "models.md"
_PACKAGES = ("topovlm", "torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy", "pillow")
Row = dict[str, dict[str, Any]]


def check_one(name: str, checks: list[str], work: Path) -> Row:
    """Check -> what it measured, or the `error` that it raised."""
    from benchmarks.family_checks import CHECKS, build, timed

    family, row = build(name, work), {}
    for check in checks:
        try:
            row[check] = timed(CHECKS[check], family)
        except Exception as error:  # whatever it is, it is this cell's result
            lines = str(error).strip().splitlines() or [""]
            row[check] = {"error": f"{type(error).__name__}: {lines[0][:300]}"}
    return row


def in_own_process(name: str, checks: list[str]) -> Row:
    """`check_one`, elsewhere; a process that dies is the result of every check."""
    with tempfile.TemporaryDirectory(prefix="topovlm-families-") as folder:
        answer = Path(folder) / "row.json"
        command = [sys.executable, "-m", "benchmarks.families", "--one", name, "--answer", str(answer)]
        command += ["--checks", ",".join(checks)]
        # An empty cache: what tracing costs is a part of what is measured.
        settings = {**os.environ, "TOPOVLM_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
        if not answer.is_file():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return {check: {"error": last} for check in checks}
        found: Row = json.loads(answer.read_text(encoding="utf-8"))
        return found


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def line(name: str, row: Row) -> str:
    """One family for people: seconds where a check passed, the reason where it did not."""
    cells = [f"{check} {found['seconds']:g} s" for check, found in row.items() if "error" not in found]
    failed = [f"{check}: {found['error']}" for check, found in row.items() if "error" in found]
    return f"{name:20s} " + "  ".join(cells) + "".join(f"\n    FAILED {reason}" for reason in failed)


def main() -> int:
    from tests.tiny_families import NAMES

    from benchmarks.family_checks import CHECKS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="FAMILY", help="default: all")
    parser.add_argument("--checks", default=",".join(CHECKS), metavar="LIST", help=", ".join(CHECKS))
    parser.add_argument("--write", action="store_true", help="store the results and docs/models.md")
    parser.add_argument("--page", action="store_true", help="docs/models.md from the stored results alone")
    parser.add_argument("--one", metavar="FAMILY", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    checks = args.checks.split(",")
    if args.page:
        from benchmarks.models_page import page

        PAGE.write_text(page(json.loads(STORED.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    if args.one:
        work = Path(tempfile.mkdtemp(prefix="topovlm-family-"))
        try:
            args.answer.write_text(json.dumps(check_one(args.one, checks, work)), encoding="utf-8")
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return 0
    rows: dict[str, Row] = {}
    for name in args.names or NAMES:
        rows[name] = in_own_process(name, checks)
        print(line(name, rows[name]), flush=True)
    failed = sorted(name for name, row in rows.items() if any("error" in found for found in row.values()))
    print(f"{len(rows) - len(failed)} of {len(rows)} families pass {', '.join(checks)}")
    if args.write:
        from benchmarks.models_page import page

        stored = json.loads(STORED.read_text(encoding="utf-8"))
        if stored["versions"] == versions():  # what was not run again stays
            rows = {name: stored["families"].get(name, {}) | row for name, row in rows.items()}
            rows = stored["families"] | rows
            checks = [name for name in CHECKS if name in {*stored["checks"], *checks}]
        content = {"versions": versions(), "checks": checks, "families": rows}
        STORED.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        PAGE.write_text(page(json.loads(STORED.read_text(encoding="utf-8"))), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
