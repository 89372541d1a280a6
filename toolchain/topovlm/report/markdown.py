"""report.md: the report for terminals, pull requests and model cards."""

from __future__ import annotations

from topovlm.report.document import Report
from topovlm.report.summary import STATUS_WORDS, cards, verdict
from topovlm.report.tables import Table, sections
from topovlm.text import for_markdown


def _table(table: Table) -> list[str]:
    header, *rows = ["| " + " | ".join(map(for_markdown, row)) + " |" for row in (table.header, *table.rows)]
    rule = "| " + " | ".join(["---"] * len(table.header)) + " |"
    return [f"**{for_markdown(table.caption)}**", "", header, rule, *rows, ""]


def render_markdown(report: Report) -> str:
    """GitHub-flavoured Markdown with the same answers and tables as the HTML form."""
    lines = [
        f"# {for_markdown(report.title)}",
        "",
        for_markdown(verdict(report)),
        "",
        "| question | answer | |",
        "| --- | --- | --- |",
    ]
    for card in cards(report):
        kind = f" *({card.kind})*" if card.kind else ""
        headline, detail = for_markdown(card.headline), for_markdown("; ".join(card.detail))
        status = STATUS_WORDS[card.status]
        lines.append(f"| **{card.question}** | **{status}**: {headline}{kind} | {detail} |")
    lines.append("")
    for section in sections(report):
        lines += [f"## {section.title}", ""]
        for paragraph in section.text:
            lines += [for_markdown(paragraph), ""]
        for table in section.tables:
            lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"
