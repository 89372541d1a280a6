"""What a readable report is made of: sections of paragraphs, plots by name, and tables of text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column heads its row. `long` tables may be folded away."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    long: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, the names of its plots, and tables."""

    name: str
    title: str
    text: tuple[str, ...]
    plots: tuple[str, ...]
    tables: tuple[Table, ...]


def table(caption: str, header: str, rows: Iterable[tuple[str, ...]], *, long: bool = False) -> Table:
    return Table(caption, tuple(header.split("|")), tuple(rows), long)


def threads_text(number_of: int) -> str:
    return f"{number_of} thread{'s' if number_of != 1 else ''}"
