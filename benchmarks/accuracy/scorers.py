"""What every scorer would drop, with every cloud and number of neighbours that is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.draws import SAMPLES
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import difference, head, say, spread, summed
from benchmarks.accuracy.pools import lost_items
from benchmarks.accuracy.subject import Drop, Subject, free_layers
from topovlm.choose.bypasses import collect_bypassed
from topovlm.choose.calibration import collect
from topovlm.choose.clouds import STREAM, States, clouds_of, readings_for
from topovlm.choose.eliminations import collect_elimination
from topovlm.choose.loops import barcode_with_loops, barcodes_by_k, most_bars, rank_correlation, steadiest
from topovlm.choose.reading import norm_of
from topovlm.choose.scorers import SCORERS, Settings, find_scorer, scorers_for
from topovlm.choose.scoring import score, select
from topovlm.choose.sensitivities import collect_sensitivity
from topovlm.config import resolve
from topovlm.pipeline.clouds import cloud_of
from topovlm.pipeline.constants import CONSTANTS
from topovlm.topology.barcode import Barcode

FEW = 64  # samples for what takes a partial pass per layer
NEIGHBOURS = (5, 15, 25)
_RIVALS = ("block-influence", "random")
_DRAWS = 5  # of random sets, for every draw of samples
DEFAULT, PUBLISHED = "zigzag, residual, text-mean, auto", "zigzag, residual, last, k=15"
_RULES = ("auto", "k=15")  # those that are compared where time is short


@dataclass(frozen=True)
class Seen:
    """Of one draw of samples: states by reading, and where they were asked for streams without each layer, by
    cloud, slopes by layer, and the order of elimination, which older rooms do not hold."""

    states: States
    bypassed: Mapping[str, np.ndarray]
    sensitivity: np.ndarray | None
    elimination: np.ndarray | None = None

    @property
    def samples(self) -> int:
        """How many were scored."""
        return int(self.states[STREAM].shape[1])


def look(subject: Subject, seed: int, *, costly: bool) -> Seen:
    """One pass over the samples; `costly`: and partial ones per layer over a few of them."""
    samples = subject.calibration(SAMPLES, seed)
    tokens = ("last", "text-mean", *(("multi",) if samples[0].images else ()))
    readings = {
        reading: None
        for cloud in ("residual", "normalised")
        for token in tokens
        for reading in readings_for(cloud, token)
    }
    few = samples[:FEW]
    states = collect(subject.live, samples, tuple(readings))
    if not costly:
        return Seen(states, {}, None)
    without = collect_bypassed(subject.live, few)
    # Of one token, what the norm makes of a vector needs no other pass.
    normalised = norm_of(subject.live)(torch.from_numpy(without)).numpy()
    return Seen(
        states,
        {"residual": without, "normalised": normalised},
        collect_sensitivity(subject.live, few, seed),
        collect_elimination(subject.live, samples[: CONSTANTS.elimination_samples], subject.protected),
    )


@dataclass(frozen=True)
class Cloud:
    """Points of one kind, [layers, points, width], with barcodes by the name of the rule that chose k."""

    stream: str
    token: str
    points: np.ndarray
    barcodes: Mapping[str, tuple[int, Barcode]]


def clouds(seen: Seen, *, few: bool = False) -> list[Cloud]:
    """All that are compared; `few`: fewer numbers of neighbours."""
    found = []
    for stream in ("residual", "normalised"):
        for token in ("last", "text-mean", "multi"):
            if all(reading in seen.states for reading in readings_for(stream, token)):
                points = clouds_of(seen.states, stream, token)
                barcodes = dict(_barcodes(points))
                kept = {name: one for name, one in barcodes.items() if not few or name in _RULES}
                found.append(Cloud(stream, token, points, kept))
    return found


def scored(
    subject: Subject, seen: Seen, views: Sequence[Cloud], seed: int, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and scores [layers] of every way to score, when `count` layers go."""
    stream = seen.states[STREAM]
    base = Settings(seed=seed, drop_count=count, protected=subject.protected)
    for view in views:
        for name, (k, barcode) in view.barcodes.items():
            settings = replace(base, k=k, barcode=barcode, points=view.points)
            form = f"{view.stream}, {view.token}, {name}"
            yield f"zigzag, {form}", _values(stream, "zigzag", settings)
            if f"zigzag, {form}" in (DEFAULT, PUBLISHED):
                for other in ("zigzag-seed", "rank-average"):
                    yield f"{other}, {form}", _values(stream, other, settings)
        if view.token == "last" and view.stream in seen.bypassed:
            settings = replace(base, points=view.points, bypassed=seen.bypassed[view.stream])
            for name in ("bypass-consistency", "bypass-zigzag"):
                yield f"{name}, {view.stream}", _values(stream, name, settings)
    asked = {"fisher": seen.sensitivity, "greedy": seen.elimination}
    settings = replace(
        base, sensitivity=asked["fisher"], elimination=asked["greedy"], points=seen.states[STREAM]
    )
    for name in SCORERS:
        blind = name in asked and asked[name] is None
        if not blind and not name.startswith(("zigzag", "rank", "bypass", "persistence", "random")):
            yield name, _values(stream, name, settings)


def _barcodes(points: np.ndarray) -> Iterator[tuple[str, tuple[int, Barcode]]]:
    by_k = barcodes_by_k(points)
    for k in NEIGHBOURS:
        yield f"k={k}", (k, by_k[k])
    for name, rule in (("auto", most_bars), ("plateau", steadiest)):
        k = rule(by_k)
        yield name, (k, by_k[k])


def _values(stream: np.ndarray, name: str, settings: Settings) -> np.ndarray:
    return np.asarray(score(stream, find_scorer(name), settings).scores)


def proposed(subject: Subject, values: np.ndarray, count: int) -> Drop:
    return frozenset(select(values.tolist(), count, subject.protected))


def product_proposals(subject: Subject, seen: Seen, seed: int, count: int) -> dict[str, tuple[int, ...]]:
    """What the scorers of a deployment propose, at their defaults."""
    stream, cloud = seen.states[STREAM], cloud_of(resolve({}))
    points = clouds_of(seen.states, cloud.stream, cloud.token)
    k, barcode = barcode_with_loops(points, cloud.neighbours)
    base = Settings(k=k, seed=seed, drop_count=count, protected=subject.protected)
    settings = replace(base, barcode=barcode, points=points)
    return {
        name: select(score(stream, name, settings).scores, count, subject.protected) for name in scorers_for()
    }


def seen_by(subject: Subject, room: Path, seed: int, *, costly: bool = False) -> Seen:
    """What scorers are given of one draw, kept in the room."""
    every = room / f"seen-{seed}-costly.pkl"
    file = every if costly or every.is_file() else room / f"seen-{seed}.pkl"
    return once(file, lambda: look(subject, seed, costly=costly))


def compare_scorers(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int], *, costly: bool, few: bool
) -> dict[str, Any]:
    """Losses of every scorer's sets, by number of layers that go, and how they rank single layers.

    `costly`: also of scorers with partial passes per layer; `few`: fewer numbers of neighbours.
    """
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    free = free_layers(subject)
    singles = [
        lost_items(dense, one, subject.measures[0]).mean() for one in measured([[layer] for layer in free])
    ]
    sets: dict[int, dict[str, list[list[Drop]]]] = {count: {} for count in counts}
    ranks: dict[str, list[float]] = {}
    for seed in seeds:
        seen = seen_by(subject, room, seed, costly=costly)
        views = clouds(seen, few=few)
        for count in counts:
            for name, values in scored(subject, seen, views, seed, count):
                sets[count].setdefault(name, []).append([proposed(subject, values, count)])
                if count == counts[0]:
                    ranks.setdefault(name, []).append(rank_correlation(values[free], -np.asarray(singles)))
            rng = np.random.default_rng([seed, 5])
            draws = [frozenset(rng.choice(free, count, replace=False).tolist()) for _ in range(_DRAWS)]
            sets[count].setdefault("random", [[]] * len(seeds))[seeds.index(seed)] = draws
        say(f"{subject.name}: seed {seed} scored")
    losses: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for count in counts:
        for name, by_seed in sets[count].items():
            outcomes = [measured(draws) for draws in by_seed]
            losses.setdefault(name, {})[count] = {
                measure: np.stack(
                    [np.mean([lost_items(dense, one, measure) for one in some], axis=0) for some in outcomes]
                )
                for measure in subject.measures
            }
        say(f"{subject.name}: {count} layers measured")
    return {
        **head(subject, dense, seeds, counts),
        "singles": {str(layer): float(loss) for layer, loss in zip(free, singles, strict=True)},
        "losses": {name: summed(by_count) for name, by_count in losses.items()},
        "ranks": {name: spread(values) for name, values in ranks.items()},
        "paired": {
            form: {
                rival: summed(difference(losses[form], losses[rival])) for rival in _RIVALS if rival in losses
            }
            for form in (DEFAULT, PUBLISHED)
            if form in losses
        },
        "sets": {
            str(count): {name: [sorted(one) for (one, *_) in by_seed] for name, by_seed in found.items()}
            for count, found in sets.items()
        },
    }
