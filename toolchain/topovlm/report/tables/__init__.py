"""The sections of the report as plain tables, shared by the Markdown and the HTML form."""

from __future__ import annotations

from topovlm.report.document import Report
from topovlm.report.tables.accuracy import accuracy_section
from topovlm.report.tables.artifacts import artifacts_section
from topovlm.report.tables.benchmarks import benchmarks_section
from topovlm.report.tables.latency import latency_section
from topovlm.report.tables.layers import layers_section
from topovlm.report.tables.origin import origin_section
from topovlm.report.tables.plan import plan_section
from topovlm.report.tables.shape import Section, Table

__all__ = ["Section", "Table", "sections"]


def sections(report: Report) -> tuple[Section, ...]:
    """All sections that the report has data for, in reading order."""
    made: list[Section | None] = [
        latency_section(report),
        accuracy_section(report),
        benchmarks_section(report),
        layers_section(report.selection) if report.selection else None,
        plan_section(report),
        artifacts_section(report),
        origin_section(report),
    ]
    return tuple(section for section in made if section)
