"""Efficiencies from published rows: few constants, robust, judged on rows that were held out.

Every (family, runtime, dtype) and phase gets two constants: a share of the peak, and a fixed cost per
layer (or, for decode, a host floor). Where rows are thin they hardly determine both, so each constant is
pulled weakly towards the median of all entries of its phase. The stated spread of an entry comes from
its held-out errors, and grows where only one device was published.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.predictor_fit.memory import fit_memory
from benchmarks.predictor_fit.robust import LEAST_SPREAD, ROBUST_SCALE, digits, upper_error
from benchmarks.predictor_fit.rows import MemoryRow, PhaseRow
from topovlm.predict.efficiencies import LENDING_ROWS, SCHEMA, Coefficients, Entry, Errors, pick
from topovlm.predict.phases import decode_s, prefill_s, vision_s

MIN_ROWS = 2
# Rows from which an entry may speak for others in the pooled medians.
_POOL_ROWS = 5
# A host floor must lower the held-out error by this share against a cost per layer.
_WORTH = 0.15
# How far (in logarithms, one standard deviation) a constant may lie from the pooled median.
_PULL = {"efficiency": 0.5, "layer_kcycles": 1.0, "host_us_per_layer": 1.0}
# Bandwidth share assumed for prefill where no decode row tells it.
_UNKNOWN_BANDWIDTH_SHARE = 0.8


@dataclass(frozen=True)
class Form:
    """Which constants of an entry are free, and whether reads overlap with arithmetic (2) or add (1)."""

    free: tuple[str, str]
    overlap: int = 2


# Start, lower and upper bound of each constant.
_RANGE = {
    "efficiency": (0.5, 0.02, 1.0),
    "layer_kcycles": (100.0, 0.1, 5e3),
    "host_us_per_layer": (200.0, 1.0, 5e3),
}
_PER_LAYER = ("efficiency", "layer_kcycles")
FORMS = {
    "vision": (Form(_PER_LAYER),),
    "prefill": (Form(_PER_LAYER), Form(_PER_LAYER, overlap=1)),
    "decode": (Form(_PER_LAYER), Form(("efficiency", "host_us_per_layer"))),
}
Pool = Mapping[str, float]


def predict_row(entry: Entry, row: PhaseRow, bandwidth_share: float) -> float:
    """Seconds that `entry` predicts for `row`."""
    if row.phase == "vision":
        return vision_s(entry, row.linear_flop, row.layers, row.machine)
    if row.phase == "decode":
        return decode_s(entry, row.read_bytes, row.layers, row.machine)
    return prefill_s(
        entry,
        bandwidth_share,
        row.machine,
        linear_flop=row.linear_flop,
        attention_flop=row.attention_flop,
        weight_bytes=row.weight_bytes,
        layers=row.layers,
    )


def log_error(entry: Entry, row: PhaseRow, bandwidth_share: float) -> float:
    """ln(predicted / published)."""
    return math.log(predict_row(entry, row, bandwidth_share) / row.seconds)


def _entry(rows: Sequence[PhaseRow], form: Form, values: Iterable[float]) -> Entry:
    family, runtime, dtype = rows[0].key
    constants = {name: float(value) for name, value in zip(form.free, values, strict=True)}
    return Entry(
        family=family,
        runtime=runtime,
        dtype=dtype,
        phase=rows[0].phase,
        overlap=form.overlap,
        least_layer_params=digits(min(row.layer_params for row in rows)),
        rows=len(rows),
        models=tuple(sorted({row.model for row in rows})),
        devices=tuple(sorted({row.device for row in rows})),
        spread=0.0,
        **constants,  # type: ignore[arg-type]
    )


def fit_form(rows: Sequence[PhaseRow], form: Form, bandwidth_share: float, pool: Pool) -> Entry:
    """Robust least squares on relative errors, in the logarithm of every constant, pulled to `pool`."""
    start, low, high = np.log([_RANGE[name] for name in form.free]).T
    pulled = [
        (index, math.log(pool[name]), _PULL[name]) for index, name in enumerate(form.free) if name in pool
    ]

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        entry = _entry(rows, form, np.exp(values))
        misfit = [log_error(entry, row, bandwidth_share) for row in rows]
        pull = [(values[index] - centre) / width * ROBUST_SCALE for index, centre, width in pulled]
        return np.array(misfit + pull)

    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=ROBUST_SCALE)
    return _entry(rows, form, np.exp(found.x))


def held_out(
    rows: Sequence[PhaseRow], form: Form, fixed: tuple[float, Pool], group: Callable[[PhaseRow], str]
) -> list[float]:
    """Absolute log errors of every row under constants fitted without its group."""
    errors = []
    for name in sorted({group(row) for row in rows}):
        rest = [row for row in rows if group(row) != name]
        entry = fit_form(rest, form, *fixed)
        errors += [abs(log_error(entry, row, fixed[0])) for row in rows if group(row) == name]
    return errors


def _by_model(row: PhaseRow) -> str:
    return row.model


def _by_device(row: PhaseRow) -> str:
    return row.device


def _judge(rows: Sequence[PhaseRow], form: Form, fixed: tuple[float, Pool]) -> dict[str, list[float]]:
    """Held-out errors by kind of group; single rows are held out where there is one model and device."""
    kinds: dict[str, list[float]] = {}
    for name, group in (("model", _by_model), ("device", _by_device)):
        if len({group(row) for row in rows}) > 1:
            kinds[name] = held_out(rows, form, fixed, group)
    if not any(kinds.values()):
        number = {id(row): str(index) for index, row in enumerate(rows)}
        kinds = {"row": held_out(rows, form, fixed, lambda row: number[id(row)])}
    return {name: errors for name, errors in kinds.items() if errors}


def _mean(kinds: dict[str, list[float]]) -> float:
    return float(np.mean([np.mean(errors) for errors in kinds.values()])) if kinds else math.inf


def fit_entry(
    rows: Sequence[PhaseRow], bandwidth_share: float = _UNKNOWN_BANDWIDTH_SHARE, pool: Pool | None = None
) -> Entry:
    """Best form for rows of one key and phase, with held-out errors and spread. Needs two rows."""
    fixed = bandwidth_share, pool or {}
    judged = [(form, _judge(rows, form, fixed)) for form in FORMS[rows[0].phase]]
    form, kinds = judged[0]
    for other, found in judged[1:]:
        worth = _WORTH if other.free != form.free else 0.0
        if _mean(found) < _mean(kinds) * (1 - worth):
            form, kinds = other, found
    errors = tuple(
        Errors(name, len(found), round(math.expm1(float(np.median(found))), 4), round(_p90(found), 4))
        for name, found in kinds.items()
    )
    spread = math.expm1(upper_error([error for found in kinds.values() for error in found]))
    entry = fit_form(rows, form, *fixed)
    return msgspec.structs.replace(
        entry,
        efficiency=digits(entry.efficiency),
        layer_kcycles=digits(entry.layer_kcycles),
        host_us_per_layer=digits(entry.host_us_per_layer),
        errors=errors,
        spread=round(max(LEAST_SPREAD, spread), 3),
    )


def _p90(errors: Sequence[float]) -> float:
    return math.expm1(float(np.quantile(errors, 0.9)))


def fit_all(rows: Sequence[PhaseRow]) -> tuple[Entry, ...]:
    """One entry per (family, runtime, dtype, phase) with enough rows; decode first, prefill uses it."""
    entries: list[Entry] = []
    freely: list[Entry] = []
    for phase in ("decode", "prefill", "vision"):
        groups: dict[tuple[str, str, str], list[PhaseRow]] = {}
        for row in rows:
            if row.phase == phase:
                groups.setdefault(row.key, []).append(row)
        enough = {key: members for key, members in sorted(groups.items()) if len(members) >= MIN_ROWS}
        shares = {key: bandwidth_share(entries, key) for key in enough}
        of_phase = [
            fit_form(members, form, shares[key], {})
            for key, members in enough.items()
            if len(members) >= _POOL_ROWS
            for form in FORMS[phase]
        ]
        freely += of_phase
        pool = {**_pool(freely), **_pool(of_phase)}  # a constant that no entry of the phase tells: from all
        fitted = [fit_entry(members, shares[key], pool) for key, members in enough.items()]
        # Too few rows to tell their constants apart run into a bound: borrowing is better than that.
        entries += [entry for entry in fitted if entry.rows >= LENDING_ROWS or _inside(entry)]
    return _widen_unvaried(entries)


def _inside(entry: Entry, name: str | None = None) -> bool:
    """Whether a constant (or every one that was free) lies clear of its bounds."""
    checked = [name] if name else [other for other in _RANGE if getattr(entry, other)]
    return all(_RANGE[each][1] * 1.01 < getattr(entry, each) < _RANGE[each][2] * 0.99 for each in checked)


def _pool(entries: Sequence[Entry]) -> dict[str, float]:
    """Median of each constant over entries that were fitted freely and did not run into a bound."""
    pool = {}
    for name in _RANGE:
        inside = [getattr(entry, name) for entry in entries if _inside(entry, name)]
        if inside:
            pool[name] = float(np.median(inside))
    return pool


def bandwidth_share(entries: Sequence[Entry], key: tuple[str, str, str]) -> float:
    """Bandwidth efficiency that prefill at `key` uses: of the nearest decode entry."""
    if not any(entry.phase == "decode" for entry in entries):
        return _UNKNOWN_BANDWIDTH_SHARE
    return pick(tuple(entries), NO_BORROWING_COST, key, "decode").entry.efficiency


def _widen_unvaried(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """An entry of one device (or model) never met a second: add what second ones cost the other entries."""
    widened = []
    for entry in entries:
        spread = entry.spread
        for kind, seen in (("device", entry.devices), ("model", entry.models)):
            costs = [
                errors.p90
                for other in entries
                if other.phase == entry.phase
                for errors in other.errors
                if errors.left_out == kind
            ]
            if len(seen) == 1 and costs:
                spread += float(np.median(costs))
        widened.append(msgspec.structs.replace(entry, spread=round(spread, 3)))
    return tuple(widened)


_BORROWED = ("dtype", "runtime", "family")
NO_BORROWING_COST = {
    f"{name}:{phase}": 0.0 for name in _BORROWED for phase in ("vision", "prefill", "decode")
}


def borrow_spreads(rows: Sequence[PhaseRow], entries: Sequence[Entry]) -> dict[str, float]:
    """What borrowing costs: errors of rows under entries that differ from their own in one respect."""
    found: dict[str, list[float]] = {name: [] for name in NO_BORROWING_COST}
    for own in entries:
        members = [row for row in rows if row.phase == own.phase and row.key == _key(own)]
        for other in entries:
            if other is own or other.phase != own.phase or other.rows < LENDING_ROWS:
                continue
            differs = [name for name in _BORROWED if getattr(own, name) != getattr(other, name)]
            if len(differs) != 1:
                continue
            share = bandwidth_share(entries, _key(own))
            found[f"{differs[0]}:{own.phase}"] += [abs(log_error(other, row, share)) for row in members]
    pooled = {
        name: [e for key, errors in found.items() if key.startswith(name) for e in errors]
        for name in _BORROWED
    }
    everything = [error for errors in found.values() for error in errors]
    return {
        key: round(
            math.expm1(float(np.quantile(errors or pooled[key.partition(":")[0]] or everything, 0.8))), 3
        )
        for key, errors in found.items()
    }


def _key(entry: Entry) -> tuple[str, str, str]:
    return entry.family, entry.runtime, entry.dtype


def fit_coefficients(
    rows: Sequence[PhaseRow], memory_rows: Sequence[MemoryRow], *, rows_sha256: str, generated_by: str
) -> Coefficients:
    """Everything that the predictor reads."""
    entries = fit_all(rows)
    return Coefficients(
        schema=SCHEMA,
        generated_by=generated_by,
        rows_sha256=rows_sha256,
        default_runtime=Counter(row.runtime for row in rows).most_common(1)[0][0],
        entries=tuple(sorted(entries, key=lambda entry: (entry.phase, *_key(entry)))),
        borrow_spread=borrow_spreads(rows, entries),
        memory=fit_memory(memory_rows),
    )
