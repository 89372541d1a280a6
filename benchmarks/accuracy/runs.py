"""The comparisons: scorers alone, repairs, what a deployment chooses, and healing."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.accuracy.choices import PRODUCT, SETTINGS, Chosen, choose
from benchmarks.accuracy.compare import over_seeds_and_items
from benchmarks.accuracy.healing import CONFIRMING, heal
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.pools import judged_by, lost_items, sets_of
from benchmarks.accuracy.repairs import MASSIVE, REPAIRS, repaired
from benchmarks.accuracy.rivals import FORMATS, measured_in
from benchmarks.accuracy.scorers import (
    DEFAULT,
    PUBLISHED,
    SAMPLES,
    Seen,
    clouds,
    look,
    product_proposals,
    proposed,
    scored,
)
from benchmarks.accuracy.subject import Drop, Outcome, Subject, free_layers
from topovlm.choose.calibration import collect
from topovlm.choose.clouds import STREAM
from topovlm.choose.loops import rank_correlation
from topovlm.choose.repair.fit import Ways
from topovlm.choose.sweep import Variant
from topovlm.records import plain
from topovlm.samples import Sample

_HEAL_S = 600.0
_RIVALS = ("block-influence", "random")
JUDGING = 384  # samples of a judge of everything
_DRAWS = 5  # of random sets, for every draw of samples


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
        """By name, as `_summed`."""
        return {
            name: _summed(
                {
                    count: {measure: np.stack(rows) for measure, rows in by_measure.items()}
                    for count, by_measure in by_count.items()
                }
            )
            for name, by_count in self._rows.items()
        }


def compare_scorers(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int], *, costly: bool, few: bool
) -> dict[str, Any]:
    """Losses of every scorer's sets, by number of layers that go, and how they rank single layers.

    `costly`: also of scorers with a partial pass per layer; `few`: fewer numbers of neighbours.
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
        **_head(subject, dense, seeds, counts),
        "singles": {str(layer): float(loss) for layer, loss in zip(free, singles, strict=True)},
        "losses": {name: _summed(by_count) for name, by_count in losses.items()},
        "ranks": {name: spread(values) for name, values in ranks.items()},
        "paired": {
            form: {
                rival: _summed(_difference(losses[form], losses[rival]))
                for rival in _RIVALS
                if rival in losses
            }
            for form in (DEFAULT, PUBLISHED)
            if form in losses
        },
        "sets": {
            str(count): {name: [sorted(one) for (one, *_) in by_seed] for name, by_seed in found.items()}
            for count, found in sets.items()
        },
    }


def compare_choices(
    subject: Subject,
    room: Path,
    seeds: Sequence[int],
    counts: Sequence[int],
    *,
    formats: Sequence[str] = tuple(FORMATS),
) -> dict[str, Any]:
    """Losses of what a deployment chooses, by setting: cut alone, as it ships, and in fewer bits; and of the
    dense model in fewer bits. `formats`: these."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    losses = Losses(subject.measures, dense)
    chosen: dict[str, dict[str, list[Any]]] = {}
    small = {kind: _small(subject, room, kind) for kind in formats}
    live, drawn = subject.live, subject.calibration(SAMPLES, seeds[0])  # not part of what is timed
    began = perf_counter()
    collect(live, drawn, (STREAM,))
    one_pass_s = perf_counter() - began
    for seed in seeds:
        seen = seen_by(subject, room, seed)
        most = max(one.judge_samples for one in SETTINGS.values())
        samples = subject.calibration(seen.samples + 2 * most, seed)
        scoring, others = samples[: seen.samples], samples[seen.samples :]
        for count in counts:
            proposals = product_proposals(subject, seen, seed, count)
            outcomes = {f"dense, {kind}": one for kind, one in small.items()}
            for name, settings in SETTINGS.items():
                file = room / f"choice-{name}-{seed}-{count}.pkl"
                if not file.is_file():
                    found = choose(subject, scoring, others, proposals, seed=seed, settings=settings)
                    shipped = Variant(frozenset(found.record.dropped), found.weights)
                    (outcome,) = subject.measure([shipped])
                    file.write_bytes(pickle.dumps((found, outcome)))
                found, outcome = _choice(room, name, seed, count)
                record, seconds = found.record, found.seconds
                shipped = Variant(frozenset(record.dropped), found.weights)
                fewer_bits = {
                    kind: once(
                        room / f"choice-{name}-{seed}-{count}-{kind}.pkl",
                        partial(measured_in, subject, kind, shipped),
                    )
                    for kind in formats
                }
                searched, cut = measured([record.search.dropped, record.dropped])
                outcomes[f"{name}, cut where the search ends"] = searched
                outcomes |= {f"{name}, cut": cut, f"{name}, as it ships": outcome}
                outcomes |= {f"{name}, {kind}": one for kind, one in fewer_bits.items()}
                chosen.setdefault(name, {}).setdefault(str(count), []).append(
                    {
                        "dropped": list(record.dropped),
                        "seconds": round(sum(seconds.values()), 1),
                        "dense_passes": round(sum(seconds.values()) / one_pass_s, 2),
                        "passes_by_part": {name: round(s / one_pass_s, 2) for name, s in seconds.items()},
                        "looked_at": record.search.evaluations,
                        "judged": record.search.judged,
                        "confirmed": dict(found.confirmed),
                        "certainty": None if record.certainty is None else plain(record.certainty),
                    }
                )
                parts = ", ".join(f"{part} {took:.0f} s" for part, took in seconds.items())
                say(f"{subject.name}: seed {seed}, {count} layers, {name}: {parts}")
            losses.add(count, outcomes)
    return {
        **_head(subject, dense, seeds, counts),
        "settings": {name: asdict(settings) for name, settings in SETTINGS.items()},
        "dense_pass_s": round(one_pass_s, 1),
        "losses": losses.summed(),
        "chosen": chosen,
    }


def _head(subject: Subject, dense: Outcome, seeds: Sequence[int], counts: Sequence[int]) -> dict[str, Any]:
    return {
        "items": len(dense.items[subject.measures[0]]),
        "dense": {measure: dense.mean(measure) for measure in subject.measures},
        "counts": list(counts),
        "seeds": list(seeds),
    }


def _small(subject: Subject, room: Path, kind: str) -> Outcome:
    """The dense model in fewer bits, kept in the room."""
    return once(room / f"dense-{kind}.pkl", lambda: measured_in(subject, kind, Variant()))


def compare_repairs(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Of the sets that a judge likes best, what is lost without and with each way to repair them."""
    measured = Measured(subject, room / "measured.npz")

    def liked_best(seed: int, count: int) -> Drop:
        drops = sets_of(subject, measured, count)
        judged = judged_by(subject, judging_samples(subject, seed), drops, room / f"judged-{seed}.npz")
        return drops[int(judged["kl"].mean(1).argmin())]

    return _compare_ways(measured, room, REPAIRS, liked_best, seeds=seeds, counts=counts)


def compare_massive(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Of the set that loses least of all that were measured, what is lost repaired with tokens of massive
    activations held where they are, and without."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])

    def loses_least(_seed: int, count: int) -> Drop:
        drops = sorted(measured.known(count), key=sorted)
        lost = [lost_items(dense, one, subject.measures[0]).mean() for one in measured(drops)]
        return drops[int(np.argmin(lost))]

    return _compare_ways(measured, room, MASSIVE, loses_least, seeds=seeds, counts=counts)


def _compare_ways(
    measured: Measured,
    room: Path,
    repairs: Mapping[str, tuple[int, Ways]],
    drop_of: Callable[[int, int], Drop],
    *,
    seeds: Sequence[int],
    counts: Sequence[int],
) -> dict[str, Any]:
    """`drop_of` names the set of a seed and a number of layers."""
    subject = measured.subject
    (dense,) = measured([[]])
    losses = Losses(subject.measures, dense)
    for seed in seeds:
        fitted = subject.calibration(max(count for count, _ in repairs.values()), seed)
        for count in counts:
            drop = drop_of(seed, count)
            (cut,) = measured([drop])
            losses.add(count, {"cut": cut, **repaired(subject, fitted, drop, repairs, seed=seed, room=room)})
            say(f"{subject.name}: seed {seed}, {count} layers repaired")
    return {**_head(subject, dense, seeds, counts), "losses": losses.summed()}


def compare_healing(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Of what a deployment chose (`compare_choices`), what is lost repaired, and healed besides."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    losses = Losses(subject.measures, dense)
    records: dict[str, list[Any]] = {}
    for seed in seeds:
        samples = subject.calibration(SAMPLES + JUDGING + CONFIRMING, seed)
        for count in counts:
            drop = _choice(room, PRODUCT, seed, count)[0].record.dropped
            found = heal(
                subject, samples[:SAMPLES], samples[-CONFIRMING:], drop, seconds=_HEAL_S, seed=seed, room=room
            )
            (cut,) = measured([drop])
            outcomes = {"cut": cut, "repaired": found.repaired, "healed": found.healed}
            losses.add(count, outcomes)
            records.setdefault(str(count), []).append(plain(found.record))
            say(f"{subject.name}: seed {seed}, {count} layers healed, {found.record.steps} steps")
    return {
        **_head(subject, dense, seeds, counts),
        "seconds": _HEAL_S,
        "losses": losses.summed(),
        "records": records,
    }


def _choice(room: Path, name: str, seed: int, count: int) -> tuple[Chosen, Outcome]:
    """What `compare_choices` has kept, and what it loses as it ships."""
    kept: tuple[Chosen, Outcome] = pickle.loads((room / f"choice-{name}-{seed}-{count}.pkl").read_bytes())
    return kept


def judging_samples(subject: Subject, seed: int) -> list[Sample]:
    """Others than those that score and repair."""
    return subject.calibration(SAMPLES + JUDGING, seed)[SAMPLES:]


def seen_by(subject: Subject, room: Path, seed: int, *, costly: bool = False) -> Seen:
    """What scorers are given of one draw, kept in the room."""
    every = room / f"seen-{seed}-costly.pkl"
    file = every if costly or every.is_file() else room / f"seen-{seed}.pkl"
    return once(file, lambda: look(subject, seed, costly=costly))


def _difference(
    one: Mapping[int, Mapping[str, np.ndarray]], other: Mapping[int, Mapping[str, np.ndarray]]
) -> dict[int, dict[str, np.ndarray]]:
    return {
        count: {measure: values - other[count][measure] for measure, values in one[count].items()}
        for count in one
    }


def _summed(by_count: Mapping[int, Mapping[str, np.ndarray]]) -> dict[str, Any]:
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


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
