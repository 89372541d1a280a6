"""report.md: the report for terminals, pull requests and model cards."""

from __future__ import annotations

import re

from topovlm.report.document import Report
from topovlm.report.summary import STATUS_WORDS, cards, verdict
from topovlm.report.tables import Table, sections


def _cell(text: str) -> str:
    """Text that stays text: what a model answered must not become markup or break a table."""
    escaped = re.sub(r"([\\`*|\[\]])", r"\\\1", text)
    return " ".join(escaped.replace("<", "&lt;").split("\n"))


def _table(table: Table) -> list[str]:
    rows = [table.header, ("---",) * len(table.header), *table.rows]
    lines = [f"**{_cell(table.caption)}**", ""]
    return lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows] + [""]


def render_markdown(report: Report) -> str:
    """GitHub-flavoured Markdown with the same answers and tables as the HTML form."""
    lines = [
        f"# {_cell(report.title)}",
        "",
        _cell(verdict(report)),
        "",
        "| question | answer | |",
        "| --- | --- | --- |",
    ]
    for card in cards(report):
        kind = f" *({card.kind})*" if card.kind else ""
        detail = "; ".join(card.detail)
        status = STATUS_WORDS[card.status]
        lines.append(
            f"| **{card.question}** | **{status}**: {_cell(card.headline)}{kind} | {_cell(detail)} |"
        )
    lines.append("")
    for section in sections(report):
        lines += [f"## {section.title}", ""]
        for paragraph in section.text:
            lines += [_cell(paragraph), ""]
        for table in section.tables:
            lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"
