"""`--max-drop`: the accuracy that a deployment must keep, held against what was measured."""

from __future__ import annotations

from topovlm.config import Config
from topovlm.errors import BudgetError, InputError, explain
from topovlm.pipeline.context import Context
from topovlm.report.document import Report
from topovlm.report.formats import figure_text, points
from topovlm.units import spell_share


def check_measurable(context: Context) -> None:
    """Raise `InputError` where nothing will measure accuracy."""
    wanted = context.config.max_drop
    if wanted is not None and not context.data.held_out():
        rule = f"{context.data.source} has no answers to hold out: accuracy is not measured"
        raise InputError(explain("--max-drop", spell_share(wanted), rule, "Give --data with answers"))


def refuse_drop(config: Config, report: Report) -> None:
    """Raise `BudgetError` where the slim model lost more: the measured mean counts, its interval is told.

    The run stands, as the best that was found within the other budgets.
    """
    found = report.accuracy.overall.difference if report.accuracy else None
    if config.max_drop is None or found is None or -found.value <= config.max_drop:
        return
    rule = (
        f"accuracy changed by {figure_text(found, as_points=True)} with {report.dense.layers} layers cut to "
        f"{report.slim.layers if report.slim else report.dense.layers}; {points(-config.max_drop)} may go"
    )
    remedy = (
        f"{config.output} holds the best that was found within the budget. A larger budget lets more layers "
        "stay; more --samples and --judge-samples choose better"
    )
    raise BudgetError(explain("--max-drop", spell_share(config.max_drop), rule, remedy))
