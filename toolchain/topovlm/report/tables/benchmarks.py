"""One row a public benchmark, and what its figure can be compared with."""

from __future__ import annotations

from collections.abc import Sequence

from topovlm.report import formats
from topovlm.report.document import Benchmark, CategoryAccuracy, Figure, Report
from topovlm.report.formats import ABSENT, count, figure_text, number
from topovlm.report.tables.shape import Section, table

HEADER = (
    "benchmark|protocol|questions|clusters|chance|dense right|slim right|difference in points|p|kept|"
    "kept beyond chance|answers read: dense / slim"
)


def row(benchmark: Benchmark) -> tuple[str, ...]:
    """Measured shares with 95 % intervals over clusters; cells of `HEADER`."""
    found = benchmark.accuracy.overall
    return (
        benchmark.name,
        benchmark.protocol,
        count(found.n),
        count(found.groups),
        number(found.chance, "share"),
        figure_text(found.dense),
        figure_text(found.slim),
        figure_text(found.difference, as_points=True).replace(" points", ""),
        formats.p_value(found.p),
        *(
            number(part.value, "share") if part else ABSENT
            for part in (found.retention, found.retention_corrected)
        ),
        f"{_read(found, found.dense_unparsed)} / {_read(found, found.slim_unparsed)}",
    )


def _share(figure: Figure | None) -> str:
    return number(figure.value, "share") if figure else ABSENT


def _read(found: CategoryAccuracy, unparsed: int | None) -> str:
    """Share of answers that the protocol could read."""
    return ABSENT if unparsed is None else number(1 - unparsed / found.n, "share")


def remarks(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Where the questions come from, their terms, and what tells a figure from the protocol's own."""
    lines = []
    for one in benchmarks:
        lines.append(
            f"{one.name}: {one.accuracy.sample_source}; {one.asked:,} of {one.available:,} questions asked, "
            f"answers of at most {one.answer_tokens} tokens. Terms: {one.licence}."
        )
        lines += [f"{one.name}: {difference}." for difference in one.differences]
    return lines


def benchmarks_section(report: Report) -> Section | None:
    if not report.benchmarks:
        return None
    rows = [row(one) for one in report.benchmarks]
    caption = "Public benchmarks, measured: share right (95 % interval over clusters)"
    tables = [table(caption, HEADER, rows)]
    parts = [
        (one.name, part.category, count(part.n), number(part.chance, "share"), figure_text(part.dense),
         figure_text(part.slim), figure_text(part.difference, as_points=True).replace(" points", ""))
        for one in report.benchmarks
        for part in one.accuracy.categories
        if len(one.accuracy.categories) > 1
    ]  # fmt: skip
    if parts:
        header = "benchmark|category|questions|chance|dense right|slim right|difference in points"
        tables.append(table("Public benchmarks by category", header, parts, long=True))
    text = (*remarks(report.benchmarks), report.benchmarks[0].accuracy.method)
    return Section("benchmarks", "Public benchmarks", text, (), tuple(tables))
