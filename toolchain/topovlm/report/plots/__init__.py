"""The report's plots. Nothing is told by colour alone: dropped layers are hatched and crossed, slim is filled
where dense is open, predictions are diamonds.

Each function returns one `<svg>` string with a title and a description for screen readers.
"""

from __future__ import annotations

from topovlm.report.document import Report
from topovlm.report.plots.accuracy import accuracy_plot
from topovlm.report.plots.barcode import barcode_plot, topology_plot
from topovlm.report.plots.latency import latency_plot
from topovlm.report.plots.layers import layers_plot
from topovlm.report.plots.plan import pareto_plot, plan_plot

__all__ = ["all_plots"]


def all_plots(report: Report) -> dict[str, str]:
    """Every plot that the report has data for, by the name that `tables.Section.plots` uses."""
    plots: dict[str, str] = {}
    if report.latency or report.plan.rows:
        plots["latency"] = latency_plot(report)
    if report.accuracy:
        plots["accuracy"] = accuracy_plot(report)
    if report.selection:
        plots["layers"] = layers_plot(report.selection)
        if any(bar.death > bar.birth for bar in report.selection.barcode):
            plots["barcode"] = barcode_plot(report.selection)
            plots["topology"] = topology_plot(report.selection)
    if report.plan.rows:
        plots["plan"] = plan_plot(report)
    if report.plan.formats:
        plots["pareto"] = pareto_plot(report)
    return plots
