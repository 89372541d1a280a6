"""A benchmark's questions read from where they lie; rows that cannot be used are counted and named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from topovlm.errors import InputError, explain, located
from topovlm.tasks.public.items import PASS, Item, item_of
from topovlm.tasks.public.places import Place, find
from topovlm.tasks.public.record import Benchmark
from topovlm.tasks.public.rows import rows


@dataclass(frozen=True)
class Dataset:
    """`unreadable`: one sentence for each row that is left out, with its file and row."""

    record: Benchmark
    place: Place
    items: tuple[Item, ...]
    unreadable: tuple[str, ...]


def read(record: Benchmark, folder: Path | None = None, *, uncut: bool = False) -> Dataset:
    """All questions of the split, pictures not decoded. `folder`: the user's; None: the caches. `uncut`: the
    revision that keeps clips whole will do, too.

    Raises `InputError`: nothing there, a file that is broken or of something else, no row that can be used.
    """
    place = find(record, folder, uncut=uncut)
    items: list[Item] = []
    unreadable: list[str] = []
    numbers: dict[str, int] = defaultdict(int)
    for table in place.tables:
        name = table.path.relative_to(place.root) if table.path.is_relative_to(place.root) else table.path
        for number, row in enumerate(rows(record, table.path)):
            where = f"{name}: row {number}"
            try:
                items.append(item_of(record, row, table.config, numbers[table.config]))
            except InputError as error:
                unreadable.append(located(error, where))
            numbers[table.config] += 1
    kept = _once(record, items, unreadable)
    if record.circular:
        kept = _with_first_pass(kept, unreadable)
    if not kept:
        first = unreadable[0] if unreadable else "the tables hold no row"
        rule = f"no question of {record.title} can be used: {first}"
        raise InputError(explain("--bench", record.name, rule))
    return Dataset(record, place, tuple(kept), tuple(unreadable))


def _once(record: Benchmark, items: Iterable[Item], unreadable: list[str]) -> list[Item]:
    kept: dict[str, Item] = {}
    for item in items:
        if item.id in kept:
            unreadable.append(str(explain(record.ident or "row", item.id, "occurs twice")))
        else:
            kept[item.id] = item
    return list(kept.values())


def _with_first_pass(items: list[Item], unreadable: list[str]) -> list[Item]:
    """A question counts with its first pass: without it, lmms-eval has no such question."""
    first = {item.cluster for item in items if int(item.id.rpartition("-")[2]) < PASS}
    unreadable += [
        str(explain("index", item.id, "is a pass of a question whose first is not there"))
        for item in items
        if item.cluster not in first
    ]
    return [item for item in items if item.cluster in first]
