"""What is refused before a run begins: one list, for a deployment and for its dry run."""

from __future__ import annotations

from topovlm.machine.host import memory_bound
from topovlm.pipeline import choosing, exporting
from topovlm.pipeline.context import Context
from topovlm.pipeline.healing import refuse_healing
from topovlm.pipeline.max_drop import check_measurable
from topovlm.pipeline.preflight import refuse_too_little
from topovlm.pipeline.prompt_length import with_prompt_length


def checked_inputs(context: Context) -> Context:
    """The same, its prompt's length settled. Refuses what a stage would refuse later.

    That is: a precision, a layer, a scorer, a sample, a benchmark, a tool, an accuracy that nothing
    measures, a training that nothing confirms, a prompt, memory and disk. A budget is the plan's to judge.
    """
    _ = context.precision
    choosing.check_inputs(context)
    exporting.check(context)
    _ = context.benches
    check_measurable(context)
    refuse_healing(context)
    context = with_prompt_length(context)
    with memory_bound(context.config.memory_bytes):
        refuse_too_little(context)
    return context
