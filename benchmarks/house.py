"""The structure in figures, of this checkout and of another one (a commit before a rebuild, say):

    python -m benchmarks.house [--against DIR] [--json]

Counted from the source of `toolchain/topovlm`, nothing is imported: circles (groups of modules that import
each other, imports for types included), packages that import each other, the largest package's share of the
lines, `dict[str, Any]`, errors of `mypy --strict`, modules that name a family or an exporter outside of
their home.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import house

_HOMES = {
    "a family": (r"(?i)llava", ("families", "towers", "reference", "models", "runtime.pictures")),
    "an exporter": (r'"tensorrt"', ("exporters", "export")),
    "a scorer": (r'startswith\("zigzag|"zigzag-seed"', ("choose", "selection")),
}


def strict_errors(checkout: Path) -> int | None:
    """Errors of mypy --strict over the package; None where mypy could not run."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental"]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [*command, "--cache-dir", cache], cwd=checkout, capture_output=True, text=True, check=False
        )
    match = re.search(r"Found (\d+) errors?", done.stdout)
    if match:
        return int(match[1])
    return 0 if "Success" in done.stdout else None


def measure(checkout: Path) -> dict[str, object]:
    """The figures of one checkout."""
    root = checkout / "toolchain" / "topovlm"
    texts = {name: path.read_text(encoding="utf-8") for name, path in house.modules(root).items()}
    room, share = max(house.shares(root).items(), key=lambda pair: pair[1])
    found: dict[str, object] = {
        "modules": len(texts),
        "lines": sum(len(text.splitlines()) for text in texts.values()),
        "circles of modules": len(house.circles(root)),
        "pairs of packages that import each other": len(house.mutual(root)),
        "largest package": f"{room} {100 * share:.1f} %",
        "dict[str, Any]": sum(text.count("dict[str, Any]") for text in texts.values()),
        "mypy --strict errors": strict_errors(checkout),
        "modules over 300 lines": sum(len(text.splitlines()) > 300 for text in texts.values()),
    }
    for what, (pattern, homes) in _HOMES.items():
        naming = [n for n, text in texts.items() if not n.startswith(homes) and re.search(pattern, text)]
        found[f"modules that name {what} elsewhere"] = len(naming)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, shown first")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    columns = {"before": measure(args.against)} if args.against else {}
    columns["now"] = measure(here)
    if args.json:
        print(json.dumps(columns, indent=1))
        return 0
    print(f"| | {' | '.join(columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    for name in columns["now"]:
        print(f"| {name} | {' | '.join(str(found[name]) for found in columns.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
