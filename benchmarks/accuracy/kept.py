"""Outcomes of sets of layers in one file, so that a run that ends early goes on where it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.choose.sweep import Variant

_AT_A_TIME = 16
_Made = TypeVar("_Made")


def once(file: Path, make: Callable[[], _Made]) -> _Made:
    """What `make` gives, computed where `file` does not have it yet. Only for files of one's own room."""
    if not file.is_file():
        file.write_bytes(pickle.dumps(make()))
    made: _Made = pickle.loads(file.read_bytes())
    return made


class Measured:
    """Outcomes by set, of one subject: measured once, kept in `file`."""

    def __init__(self, subject: Subject, file: Path) -> None:
        self.subject, self.file = subject, file
        self._known: dict[str, Outcome] = {}
        if file.is_file():
            with np.load(file) as held:
                for key in {name.rpartition("|")[0] for name in held.files}:
                    items = {measure: held[f"{key}|{measure}"] for measure in subject.measures}
                    self._known[key] = Outcome(items)

    def __call__(self, drops: Sequence[Collection[int]]) -> list[Outcome]:
        keys = [_key(drop) for drop in drops]
        new = [frozenset(drop) for drop, key in zip(drops, keys, strict=True) if key not in self._known]
        waiting = sorted(set(new), key=sorted)
        for start in range(0, len(waiting), _AT_A_TIME):
            part = waiting[start : start + _AT_A_TIME]
            outcomes = self.subject.measure([Variant(drop) for drop in part])
            self._known |= {_key(drop): outcome for drop, outcome in zip(part, outcomes, strict=True)}
            self._write()
        return [self._known[key] for key in keys]

    def known(self, count: int) -> set[frozenset[int]]:
        """The sets of so many layers that were measured."""
        sets = [frozenset(map(int, key.split(","))) for key in self._known if key != "none"]
        return {drop for drop in sets if len(drop) == count}

    def _write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".part.npz")
        arrays = {
            f"{key}|{name}": values for key, one in self._known.items() for name, values in one.items.items()
        }
        np.savez(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(self.file)


def _key(drop: Collection[int]) -> str:
    return ",".join(map(str, sorted(drop))) or "none"
