"""What would help a plan that cannot keep every layer: every lever is asked."""

from __future__ import annotations

from dataclasses import replace

from topovlm.families.shape import ModelShape
from topovlm.planner.levers import LEVERS
from topovlm.planner.solve import Plan
from topovlm.predict.profile import Profile


def advise(plan: Plan, shape: ModelShape, profile: Profile | None = None) -> Plan:
    """The plan with a sentence for every change that would keep more layers, the cheapest change first.

    Without advice stay a plan that keeps every layer, one from a measured profile (it speaks for the machine,
    mode and precision that were measured alone), one whose budget is a share of the dense model on the same
    target (nothing elsewhere compares), and one that the requested sparsity binds.
    """
    latency = plan.budgets.max_latency
    relative = latency is not None and latency.share_of_dense is not None
    if plan.verdict == "dense" or profile is not None or relative or plan.floor.name == "sparsity":
        return plan
    sentences: list[str] = []
    for name, lever in sorted(LEVERS.items(), key=lambda item: item[1].cost):
        try:
            found = lever.consider(plan, shape)
        except Exception as error:  # a plug-in may raise what it likes
            raise LEVERS.failed(name, error) from error
        sentences += found.sentences if found else ()
    return replace(plan, advice=tuple(sentences))
