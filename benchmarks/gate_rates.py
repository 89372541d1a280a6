"""How often `topovlm check` raises a false alarm, and how large a regression it finds.

    python -m benchmarks.gate_rates [--repetitions 200] [--graded | --benchmarks]

Simulated runs with known truth: skewed, autocorrelated timings; a machine whose speed differs from run to run
(common to both models) and a smaller part that does not cancel; answers that flip both ways at random; graded
answers that score a little more or less; ten public benchmarks at once, of which one loses answers. Prints
what truly changed, the share of comparisons in which time to first token (or accuracy) passed, was
inconclusive, or failed, and in which any check failed. Seeded.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np
from tests.report import factory

from topovlm.report.document import Report
from topovlm.report.gate import compare

_MACHINE = 0.04  # standard deviation of the machine's speed from run to run
_MODEL = 0.01  # of one model's speed within that


def timed(report: Report, slow_down: float, rng: np.random.Generator) -> Report:
    """The report re-timed on a machine in a new mood; the slim model is `slow_down` times slower."""
    machine = float(np.exp(_MACHINE * rng.normal()))
    slim, dense = (machine * float(np.exp(_MODEL * rng.normal())) for _ in range(2))
    latency = factory.latency(slow_down * slim, dense, seed=int(rng.integers(1 << 20)))
    return msgspec.structs.replace(report, latency=latency, accuracy=None)


def answered(report: Report, loss: float, flips: float, rng: np.random.Generator) -> Report:
    """The report with `flips` of all answers changed either way at random, and `loss` of all answers lost."""
    before = factory.slim_answers(factory.dense_answers())
    after = {}
    for category, right in before.items():
        share = right.mean()
        # As many answers are lost as are mended, on average; then the loss proper.
        swap = rng.random(len(right)) < flips / 2 / np.where(right, share, 1 - share)
        moved = right ^ swap
        after[category] = moved & (rng.random(len(right)) >= loss / share)
    return msgspec.structs.replace(report, accuracy=factory.report(slim=after).accuracy, latency=None)


def graded(report: Report, loss: float, moves: float, rng: np.random.Generator) -> Report:
    """The report with graded answers: `moves` of them score up to 0.2 more or less, all lose `loss`."""
    steady = np.random.default_rng(5)
    after = {}
    for category, right in factory.dense_answers().items():
        before = steady.uniform(0.3, 0.8, len(right))
        moved = before + (rng.random(len(right)) < moves) * rng.uniform(-0.2, 0.2, len(right))
        after[category] = moved - loss
    return msgspec.structs.replace(report, accuracy=factory.report(slim=after).accuracy, latency=None)


def benched(report: Report, losses: list[float], flips: float, rng: np.random.Generator) -> Report:
    """The report with a benchmark of 500 questions, two to a picture, for each share of answers lost."""
    steady, made = np.random.default_rng(7), []
    for number, loss in enumerate(losses):
        before = steady.random(500) < 0.6
        swap = rng.random(500) < flips / 2 / np.where(before, 0.6, 0.4)
        after = (before ^ swap) & (rng.random(500) >= loss / 0.6)
        right = [float(value) for value in after]
        made.append(factory.benchmark(f"bench-{number}", right, right, cluster=2))
    return msgspec.structs.replace(report, accuracy=None, latency=None, benchmarks=tuple(made))


def verdicts(run: Report, baseline: Report, name: str) -> tuple[str, bool]:
    """The verdict of one check, and whether any check failed."""
    result = compare(run, baseline)
    return next(check.verdict for check in result.checks if check.name == name), result.regressed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--graded", action="store_true", help="the rows of graded answers alone")
    which.add_argument("--benchmarks", action="store_true", help="the rows of public benchmarks alone")
    args = parser.parse_args()
    repetitions = args.repetitions
    rng = np.random.default_rng(0)
    base = factory.standard()
    print("truth | check | passed | inconclusive | failed | any check failed")
    print("--- | --- | --- | --- | --- | ---")

    def show(truth: str, name: str, pairs: Iterator[tuple[Report, Report]]) -> None:
        found = [verdicts(run, old, name) for run, old in pairs]
        counts = Counter(verdict for verdict, _ in found)
        shares = [counts[verdict] / len(found) for verdict in ("pass", "inconclusive", "regressed")]
        shares.append(sum(failed for _, failed in found) / len(found))
        print(" | ".join((truth, name, *(f"{100 * share:.0f} %" for share in shares))), flush=True)

    if not args.graded and not args.benchmarks:
        for factor in (0.9, 1.0, 1.03, 1.05, 1.08, 1.1, 1.15):
            pairs = ((timed(base, factor, rng), timed(base, 1, rng)) for _ in range(repetitions))
            show(f"slim {100 * (factor - 1):+.0f} % in time", "latency.ttft", pairs)
        old = msgspec.structs.replace(base, latency=None)
        for loss in (0.0, 0.005, 0.01, 0.02, 0.03):
            pairs = ((answered(base, loss, 0.01, rng), old) for _ in range(repetitions))
            show(f"{100 * loss:.1f} points lost, 1 % of answers flip", "accuracy.overall", pairs)
    if not args.graded:
        rng = np.random.default_rng(2)
        old = benched(base, 10 * [0.0], 0.0, rng)
        for loss in (0.0, 0.02, 0.04, 0.06):
            pairs = ((benched(base, [loss, *9 * [0.0]], 0.02, rng), old) for _ in range(repetitions))
            show(f"{100 * loss:.1f} points lost of one in ten, 2 % flip", "benchmarks.bench-0", pairs)
    if args.benchmarks:
        return
    rng = np.random.default_rng(1)
    old = graded(base, 0.0, 0.0, rng)
    for loss in (0.0, 0.005, 0.01, 0.02, 0.03):
        pairs = ((graded(base, loss, 0.2, rng), old) for _ in range(repetitions))
        show(f"{100 * loss:.1f} points lost, 20 % of graded answers move", "accuracy.overall", pairs)


if __name__ == "__main__":
    main()
