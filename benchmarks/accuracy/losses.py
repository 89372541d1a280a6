"""What methods lose against the dense model, by number of layers, with intervals over seeds and items."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.accuracy.compare import over_seeds_and_items
from benchmarks.accuracy.pools import lost_items
from benchmarks.accuracy.subject import Outcome, Subject


class Losses:
    """What methods lose against the dense model: by name and number of layers, one row for every seed."""

    def __init__(self, measures: Sequence[str], dense: Outcome) -> None:
        self._measures, self._dense = measures, dense
        self._rows: dict[str, dict[int, dict[str, list[np.ndarray]]]] = {}

    def add(self, count: int, outcomes: Mapping[str, Outcome]) -> None:
        """Of one seed."""
        for name, outcome in outcomes.items():
            rows = self._rows.setdefault(name, {}).setdefault(count, {})
            for measure in self._measures:
                rows.setdefault(measure, []).append(lost_items(self._dense, outcome, measure))

    def summed(self) -> dict[str, Any]:
        """By name, as `summed`."""
        return {
            name: summed(
                {
                    count: {measure: np.stack(rows) for measure, rows in by_measure.items()}
                    for count, by_measure in by_count.items()
                }
            )
            for name, by_count in self._rows.items()
        }


def head(subject: Subject, dense: Outcome, seeds: Sequence[int], counts: Sequence[int]) -> dict[str, Any]:
    return {
        "items": len(dense.items[subject.measures[0]]),
        "dense": {measure: dense.mean(measure) for measure in subject.measures},
        "chance": dict(subject.chance),
        "counts": list(counts),
        "seeds": list(seeds),
    }


def summed(by_count: Mapping[int, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Mean and interval by count and measure, and by measure over all counts."""
    found: dict[str, Any] = {
        str(count): {name: asdict(over_seeds_and_items(values)) for name, values in measures.items()}
        for count, measures in by_count.items()
    }
    first = next(iter(by_count.values()))
    found["mean"] = {
        name: asdict(over_seeds_and_items(np.mean([one[name] for one in by_count.values()], axis=0)))
        for name in first
    }
    return found


def difference(
    one: Mapping[int, Mapping[str, np.ndarray]], other: Mapping[int, Mapping[str, np.ndarray]]
) -> dict[int, dict[str, np.ndarray]]:
    return {
        count: {measure: values - other[count][measure] for measure, values in one[count].items()}
        for count in one
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
