"""What a deployment would choose: proposals, search, finals and repair, as the product runs them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import torch

from benchmarks.accuracy.draws import SAMPLES
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import Losses, head, say
from benchmarks.accuracy.pools import lost_items
from benchmarks.accuracy.rivals import FORMATS, measured_in
from benchmarks.accuracy.scorers import product_proposals, seen_by
from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.choose.calibration import collect
from topovlm.choose.clouds import STREAM
from topovlm.choose.judge import Judge
from topovlm.choose.judging import Finals, judge_proposals
from topovlm.choose.parting import fitting_part
from topovlm.choose.record import JudgeRecord
from topovlm.choose.repair.fit import EVERYWHERE, Repairs
from topovlm.choose.repair.patches import cuts_up_to, fit_patches
from topovlm.choose.sweep import Variant
from topovlm.config import resolve
from topovlm.pipeline.constants import Constants
from topovlm.records import plain
from topovlm.samples import Sample

_DEFAULTS = resolve({})


@dataclass(frozen=True)
class Settings:
    """Numbers of samples and of sets, as the options of `topovlm deploy` have them for a small model."""

    judge_samples: int = _DEFAULTS.judge_samples
    judgements: int = _DEFAULTS.judgements
    finalists: int = 8


PRODUCT = "deployment"
SETTINGS = {PRODUCT: Settings()}
_CONSTANTS = Constants()


@dataclass(frozen=True)
class Chosen:
    """The set that won, what its repair is, and the seconds of processors that each part of the choice took.
    `confirmed`: KL as it is cut, and repaired."""

    record: JudgeRecord
    weights: Mapping[int, torch.Tensor]
    seconds: Mapping[str, float]
    confirmed: Mapping[str, float]


def choose(
    subject: Subject,
    scoring: Sequence[Sample],
    others: Sequence[Sample],
    proposals: Mapping[str, Sequence[int]],
    *,
    seed: int,
    settings: Settings,
) -> Chosen:
    """`scoring`: the samples that scored and fit the repair; `others` judge, fit it, too, and confirm it."""
    live, laps, began = subject.live, dict[str, float](), process_time()

    def lap(name: str) -> None:
        laps[name] = process_time() - began - sum(laps.values())

    def finals(_: Sequence[frozenset[int]]) -> Finals:
        lap("search")
        return Finals(lambda samples: Judge(live, samples, patches=patches).of, repaired=True)

    judging, confirming = others[: settings.judge_samples], others[settings.judge_samples :]
    count = len(next(iter(proposals.values())))
    cuts = cuts_up_to(count, subject.layers, subject.protected)
    patches = fit_patches(live, cuts, scoring[: _CONSTANTS.quick_repair_samples], torch.float16)
    lap("patches")
    record = judge_proposals(
        lambda samples: Judge(live, samples, patches=patches),
        subject.layers,
        judging,
        proposals,
        subject.protected,
        start="zigzag",
        budget=settings.judgements,
        finalists=settings.finalists,
        finals=finals,
        seed=seed,
        patched=True,
    )
    lap("finals")
    fitted = [*scoring[: _CONSTANTS.repair_samples], *fitting_part(judging, seed)[0]]
    (repair,) = Repairs(live, fitted, torch.float16, ways=EVERYWHERE, seed=seed).of([record.dropped])
    lap("repair")
    drop = frozenset(record.dropped)
    shipped = {"cut": Variant(drop), "repaired": Variant(drop, repair.weights)}
    kls = Judge(live, confirming[: _CONSTANTS.confirm_samples]).kls_of(list(shipped.values()))
    confirmed = dict(zip(shipped, kls, strict=True))
    lap("confirmation")
    return Chosen(record, shipped[min(shipped, key=confirmed.__getitem__)].weights, laps, confirmed)


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
    began = process_time()
    collect(live, drawn, (STREAM,))
    one_pass_s = process_time() - began
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
                found, outcome = kept_choice(room, name, seed, count)
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
                        "lost": float(lost_items(dense, outcome, subject.measures[0]).mean()),
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
        **head(subject, dense, seeds, counts),
        "settings": {name: asdict(settings) for name, settings in SETTINGS.items()},
        "dense_pass_s": round(one_pass_s, 1),
        "losses": losses.summed(),
        "chosen": chosen,
    }


def _small(subject: Subject, room: Path, kind: str) -> Outcome:
    """The dense model in fewer bits, kept in the room."""
    return once(room / f"dense-{kind}.pkl", lambda: measured_in(subject, kind, Variant()))


def kept_choice(room: Path, name: str, seed: int, count: int) -> tuple[Chosen, Outcome]:
    """What `compare_choices` has kept, and what it loses as it ships."""
    kept: tuple[Chosen, Outcome] = pickle.loads((room / f"choice-{name}-{seed}-{count}.pkl").read_bytes())
    return kept
