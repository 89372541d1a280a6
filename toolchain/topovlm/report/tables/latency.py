"""Latency and memory: what was measured, and what is predicted for the target."""

from __future__ import annotations

from topovlm.report import formats
from topovlm.report.document import Report, plan_row
from topovlm.report.formats import count, figure_text, phase_name
from topovlm.report.tables.shape import Section, table, threads_text


def latency_section(report: Report) -> Section:
    latency, dense_row, slim_row = report.latency, plan_row(report, "dense"), plan_row(report, "slim")
    text, tables = [], []
    if latency:
        text.append(
            f"Measured on {latency.where}: {latency.runtime}, {latency.variant} graph, "
            f"{threads_text(latency.threads)}. {latency.method}"
        )
        rows = [
            (
                phase_name(p.phase),
                figure_text(p.dense),
                figure_text(p.slim),
                figure_text(p.ratio),
                count(p.dense.n),
            )
            for p in latency.phases
        ]
        caption = (
            f"Measured latency on {latency.where}: median (95 % interval). "
            f"Workload: {formats.workload_text(latency.workload)}"
        )
        tables.append(table(caption, "phase|dense|slim|slim / dense|rounds", rows))
        uses = [
            (use.name, figure_text(use.dense), figure_text(use.slim), use.dense.kind)
            for use in latency.memory
        ]
        if uses:
            tables.append(table(f"Memory on {latency.where}", "memory|dense|slim|kind", uses))
        text += [f"Caution: {warning}." for warning in latency.warnings]
    else:
        text.append("Nothing was timed.")
    if dense_row:
        text.append(f"Predicted for {report.target.board} ({report.target.mode}): {report.plan.source}.")
        predictions = [
            (
                phase_name(phase),
                figure_text(formats.predicted(report, "dense", phase)),
                figure_text(formats.predicted(report, "slim", phase)),
            )
            for phase in formats.predicted_phases(report)
        ]
        slim_memory = slim_row.memory if slim_row else None
        predictions.append(("memory", figure_text(dense_row.memory), figure_text(slim_memory)))
        caption = (
            f"Predicted for {report.target.board}: value (range). "
            f"Workload: {formats.workload_text(report.workload)}"
        )
        tables.append(table(caption, "figure|dense|slim", predictions))
    return Section("latency", "Latency and memory", tuple(text), ("latency",), tuple(tables))
