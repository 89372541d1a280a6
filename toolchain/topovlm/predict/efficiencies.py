"""Fitted coefficients: what share of its peaks a board reaches, by family, runtime and weight format.

`efficiencies.json` is written by `python -m benchmarks.fit_predictor` and never by hand. Where nothing
was published for a combination, the nearest one is borrowed and the interval grows by the error that
such borrowing makes among the published rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from topovlm.errors import InputError, explain
from topovlm.predict.memory import MemoryModel
from topovlm.records import Part, read

SCHEMA = 2
PATH = Path(__file__).with_name("efficiencies.json")
# An entry of fewer rows speaks for its own combination only.
LENDING_ROWS = 3

# Likeness of families, nearest first; the first fitted one is borrowed from.
_NEAREST = {
    "jetson-orin": ("jetson-thor", "rtx", "datacenter"),
    "jetson-thor": ("jetson-orin", "rtx", "datacenter"),
    "jetson-xavier": ("jetson-orin", "jetson-thor", "rtx"),
    "rtx": ("datacenter", "jetson-orin", "jetson-thor"),
    "datacenter": ("rtx", "jetson-orin", "jetson-thor"),
}


class Errors(Part, frozen=True):
    """Relative errors on rows that the fit did not see (`left_out`: what was held back at a time)."""

    left_out: str
    rows: int
    median: float
    p90: float


class Entry(Part, frozen=True, kw_only=True):
    """Constants of one phase. `efficiency`: share of peak arithmetic (vision, prefill) or bandwidth (decode).

    `layer_kcycles`: fixed cost per layer in thousands of GPU clocks; `host_us_per_layer`: floor set by
    the host; `overlap`: 2 where arithmetic and weight reads overlap (root of squares), 1 where they add;
    `least_layer_params`: weights per layer of the smallest model among the rows.
    """

    family: str
    runtime: str
    dtype: str
    phase: str
    efficiency: float
    layer_kcycles: float = 0.0
    host_us_per_layer: float = 0.0
    overlap: int = 2
    least_layer_params: float = 0.0
    rows: int
    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    errors: tuple[Errors, ...] = ()
    spread: float
    source: str = "published"


class HeldOut(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Errors on rows that a fit did not see; `covered`: share that its interval covered, where it has one."""

    rows: int
    median: float
    p90: float
    covered: float | None = None


class Coefficients(Part, frozen=True, kw_only=True):
    """The whole file. `borrow_spread`: median error of borrowing across dtype, runtime, family.

    `default_runtime`: what predictions are for unless another runtime is named; it has the most rows.
    """

    schema: int
    generated_by: str
    rows_sha256: str
    default_runtime: str
    entries: tuple[Entry, ...]
    borrow_spread: dict[str, float]
    memory: MemoryModel
    held_out: dict[str, HeldOut] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class Efficiency:
    """An entry as it applies to a request: with the interval it deserves there and where it comes from."""

    entry: Entry
    spread: float
    origin: str

    @property
    def borrowed(self) -> bool:
        return self.origin != "fitted"


@lru_cache(maxsize=1)
def coefficients() -> Coefficients:
    """The shipped coefficients. Raises `InputError` for a damaged file."""
    return read(PATH, Coefficients, field="efficiencies", remedy="Reinstall topovlm", schema=SCHEMA)


def default_runtime() -> str:
    """The runtime that predictions are for unless another one is named."""
    return coefficients().default_runtime


def _distance(entry: Entry, family: str, runtime: str, dtype: str) -> float:
    """How far an entry is from what is asked: format is nearer than runtime, runtime than family."""
    near = _NEAREST.get(family, ("rtx", "datacenter", "jetson-thor", "jetson-orin"))
    if entry.family == family:
        family_rank = 0.0
    else:
        family_rank = 4.0 + (near.index(entry.family) if entry.family in near else len(near))
    return family_rank + 2.0 * (entry.runtime != runtime) + 1.0 * (entry.dtype != dtype)


def pick(
    entries: tuple[Entry, ...], borrow: dict[str, float], key: tuple[str, str, str], phase: str
) -> Efficiency:
    """The entry for `key` = (family, runtime, dtype), or the nearest one with a wider interval."""
    candidates = [
        entry
        for entry in entries
        if entry.phase == phase and (entry.rows >= LENDING_ROWS or _distance(entry, *key) == 0)
    ]
    if not candidates:
        raise InputError(explain("phase", phase, "has no fitted coefficients"))
    best = min(candidates, key=lambda entry: (_distance(entry, *key), -entry.rows))
    family, runtime, dtype = key
    differs = [
        name
        for name, asked, has in (
            ("dtype", dtype, best.dtype),
            ("runtime", runtime, best.runtime),
            ("family", family, best.family),
        )
        if asked != has
    ]
    if not differs:
        return Efficiency(best, best.spread, "fitted")
    spread = best.spread + sum(borrow[f"{name}:{phase}"] for name in differs)
    return Efficiency(best, spread, f"borrowed from {best.family}/{best.runtime}/{best.dtype}")


@lru_cache(maxsize=512)
def efficiency(family: str, runtime: str, dtype: str, phase: str) -> Efficiency:
    """Coefficients for one phase, borrowed from the nearest combination where nothing was published."""
    loaded = coefficients()
    # Towers run in fp16 whatever the decoder's weights are.
    key = (family, runtime, "fp16" if phase == "vision" else dtype)
    return pick(loaded.entries, loaded.borrow_spread, key, phase)
