"""How long light commands take to start, and whether they import anything heavy:

    python -m benchmarks.startup [--rounds 10] [--json]

Times whole processes (interpreter included), as a person waits for them; the first run of each command warms
the file cache and is not counted. Exit code 1 when a median is over the limit or a heavy module is imported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

LIMIT_MS = 300.0
HEAVY = ("torch", "transformers", "onnxruntime", "matplotlib", "numba", "sklearn")
COMMANDS: dict[str, list[str]] = {
    "--help": ["--help"],
    "deploy --help": ["deploy", "--help"],
    "plan": ["plan", "--target", "jetson-orin", "--max-latency", "200ms"],
    "targets": ["targets"],
    "check --help": ["check", "--help"],
}
_PROBE = (
    "import sys; from topovlm import cli\n"
    "try: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
    f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
)


def wall_ms(words: Sequence[str]) -> float:
    """One process, start to end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "topovlm", *words], capture_output=True, check=True)
    return (time.perf_counter() - began) * 1e3


def heavy_imports(words: Sequence[str]) -> list[str]:
    """Heavy modules that the command imports."""
    done = subprocess.run([sys.executable, "-c", _PROBE, *words], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stderr.splitlines()[-1].replace("'", '"'))
    return modules


def measure(rounds: int) -> dict[str, dict[str, object]]:
    """Per command: median, least and most ms over `rounds`, heavy imports."""
    results: dict[str, dict[str, object]] = {}
    for name, words in COMMANDS.items():
        wall_ms(words)
        times = [wall_ms(words) for _ in range(rounds)]
        results[name] = {
            "median_ms": statistics.median(times),
            "least_ms": min(times),
            "most_ms": max(times),
            "heavy_imports": heavy_imports(words),
        }
    return results


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    results = measure(args.rounds)
    if args.json:
        print(json.dumps(results, indent=1))
    else:
        print(f"measured, {args.rounds} rounds; limit {LIMIT_MS:.0f} ms")
        print("| command | median ms | least | most | heavy imports |\n|---|---|---|---|---|")
        for name, row in results.items():
            times = " | ".join(f"{row[key]:.0f}" for key in ("median_ms", "least_ms", "most_ms"))
            print(f"| topovlm {name} | {times} | {row['heavy_imports'] or 'none'} |")
    fine = all(float(str(r["median_ms"])) <= LIMIT_MS and not r["heavy_imports"] for r in results.values())
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
