"""From hidden states to scores, and from scores to the layers that each scorer would drop. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from topovlm.choose.record import BarRow, Extra, ScoreResult, Scores
from topovlm.choose.scorers import SCORERS, STAND_IN, Scorer, Settings, find_scorer, scorers_for
from topovlm.errors import InputError, explain
from topovlm.records import convert
from topovlm.topology.barcode import Barcode

DEFAULTS = Settings()


def score(states: np.ndarray, scorer: Scorer | str, settings: Settings = DEFAULTS) -> ScoreResult:
    """Scores of one scorer on states [layers, samples, width], the residual stream at the last prompt token.

    A barcode among the settings (of their points at their k) saves computing it again. Where the samples show
    the scorer nothing, `STAND_IN` scores in its place, and `extra` has a `note` of it. Raises `InputError`:
    states of another shape or not finite, an unknown scorer, one that gives no number per layer.
    """
    _check_states(states)
    scorer = find_scorer(scorer) if isinstance(scorer, str) else scorer
    if settings.points is None:
        settings = replace(settings, points=states)
    if "barcode" in scorer.needs and settings.barcode is None:
        from topovlm.topology.zigzag import zigzag_barcode

        points = settings.needed_points()
        settings = replace(settings, barcode=zigzag_barcode(points, k=settings.k, max_homology_dim=1))
    shared = states.view()
    shared.flags.writeable = False  # every scorer sees the same states
    try:
        blind = scorer.blind(settings)
        values, extra = scorer.score(shared, settings)
    except Exception as error:  # a plug-in may raise what it likes
        raise SCORERS.failed(scorer.name, error) from error
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (len(states),) or not np.isfinite(numbers).all():
        rule = f"must give {len(states)} finite scores, one per layer; gave an array {numbers.shape}"
        raise InputError(explain("scorer", scorer.name, rule))
    if blind and scorer.name != STAND_IN:
        return _stood_in(scorer, blind, extra, score(states, STAND_IN, settings))
    scores = tuple(numbers.tolist())
    return ScoreResult(
        scorer=scorer.name,
        paper=scorer.paper,
        why=scorer.why,
        scores=scores,
        order=ranking(scores),
        extra=_plain_extra(scorer, extra),
    )


def _stood_in(scorer: Scorer, blind: str, extra: Mapping[str, object], other: ScoreResult) -> ScoreResult:
    """Another scorer's scores under the name of the one that sees nothing."""
    note = f"{scorer.name} {blind}: {STAND_IN} stands in for it. Take more --samples"
    told = {**_plain_extra(scorer, extra), "stand_in": STAND_IN, "note": note}
    return msgspec.structs.replace(other, scorer=scorer.name, extra=told)


def score_all(states: np.ndarray, settings: Settings, asked: Collection[str] = ()) -> dict[str, ScoreResult]:
    """By name every scorer that costs next to nothing, and those `asked` for, on the same states."""
    return {name: score(states, name, settings) for name in scorers_for(asked)}


def score_for(states: np.ndarray, scored: Scores, settings: Settings) -> dict[str, ScoreResult]:
    """The same scorers when `settings.drop_count` layers go: those that depend on it score again.

    `extra` tells the papers' threshold that would drop as many, `equivalent_eps`, where there is one.
    """
    barcode = barcode_from(scored.barcode, len(states))
    settings = replace(settings, k=scored.k, barcode=barcode)
    found = {}
    for name, known in scored.scorers.items():
        scorer = find_scorer(name)
        result = score(states, scorer, settings) if scorer.depends_on_count else known
        eps = equivalent_eps(result.scores, select(result.scores, settings.drop_count, settings.protected))
        extra = result.extra if eps is None else {**result.extra, "equivalent_eps": round(eps, 4)}
        found[name] = msgspec.structs.replace(result, extra=extra)
    return found


def propose(
    results: Mapping[str, ScoreResult], drop_count: int, protected: Collection[int]
) -> dict[str, tuple[int, ...]]:
    """What every scorer would drop. Raises `InputError`: more than are not protected."""
    return {name: select(result.scores, drop_count, protected) for name, result in results.items()}


def ranking(scores: Sequence[float]) -> tuple[int, ...]:
    """Layers from the highest score to the lowest; the earlier layer first among equals."""
    return tuple(sorted(range(len(scores)), key=lambda layer: (-scores[layer], layer)))


def select(scores: Sequence[float], drop_count: int, protected: Collection[int]) -> tuple[int, ...]:
    """The `drop_count` layers of highest score that are not protected, ascending. Raises `InputError`."""
    free = [layer for layer in ranking(scores) if layer not in set(protected)]
    if drop_count < 0:
        raise InputError(explain("layers to drop", drop_count, "must not be negative"))
    if drop_count > len(free):
        rule = f"only {len(free)} of the {len(scores)} layers are not protected"
        raise InputError(explain("layers to drop", drop_count, rule, "Drop fewer layers"))
    return tuple(sorted(free[:drop_count]))


def equivalent_eps(scores: Sequence[float], dropped: Collection[int]) -> float | None:
    """The share of the highest score that the lowest dropped one has: the papers' rule drops layers whose
    score reaches eps times the highest. None without dropped layers or a positive score."""
    top = max(scores, default=0.0)
    return min(scores[layer] for layer in dropped) / top if dropped and top > 0 else None


def count_bars(barcode: Barcode) -> tuple[BarRow, ...]:
    """Equal bars together, in the barcode's order."""
    rows, counts = np.unique(barcode.bars, axis=0, return_counts=True)
    return tuple(
        BarRow(dim=dim, birth=birth, death=death - 1, count=count)
        for (dim, birth, death), count in zip(rows.tolist(), counts.tolist(), strict=True)
    )


def barcode_from(rows: Sequence[BarRow], layers: int) -> Barcode:
    """The barcode that `count_bars` counted."""
    bars = [[row.dim, row.birth, row.death + 1] for row in rows for _ in range(row.count)]
    return Barcode.from_rows(np.array(bars, dtype=np.int64), layers)


def _check_states(states: np.ndarray) -> None:
    if states.ndim != 3 or 0 in states.shape:
        raise InputError(explain("states", states.shape, "must be [layers, samples, width], none of them 0"))
    if not np.isfinite(states).all():
        raise InputError(explain("states", states.shape, "hold values that are not finite"))


def _plain_extra(scorer: Scorer, extra: Mapping[str, object]) -> Extra:
    """What a file can hold: numpy's numbers become Python's. Raises `InputError` for anything else."""
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in extra.items()}
    return convert(plain, Extra, field="scorer", name=f"{scorer.name}, its figures for the report")
