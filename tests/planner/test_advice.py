"""What would help: levers in the order of what they cost, ours and those of plug-ins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.planner.test_solve import PICTURE, QWEN, plan_for
from tests.predict.profiles import make_profile
from tests.predict.test_measured import SHAPE
from topovlm.families.shape import ModelShape
from topovlm.planner import advice as advising
from topovlm.planner.advice import advise
from topovlm.planner.levers import LEVERS, Advice, BoardLever, Lever
from topovlm.planner.solve import Budgets, Plan, make_plan
from topovlm.predict.target import load_target
from topovlm.registry import Registry
from topovlm.units import LatencyBudget
from topovlm.workload import Workload

TIGHT = "jetson-orin-nano-8gb@15W"  # 200 ms are too few here for all layers of the model


def pulled(name: str, plan: Plan) -> tuple[str, ...]:
    """The sentences of one lever."""
    found = LEVERS[name].consider(plan, QWEN)
    return () if found is None else found.sentences


def test_a_plan_that_was_made_has_no_advice_of_its_own() -> None:
    """Solving does not advise: whoever wants advice asks for it."""
    assert plan_for(TIGHT).advice == ()
    assert advise(plan_for(TIGHT), QWEN).advice != ()


def test_what_is_promised_holds() -> None:
    """Planned again with the mode, board or number of tokens that was named, so many layers fit."""
    plan = plan_for(TIGHT, confident=True)
    options = {"protected": range(plan.min_layers), "confident": True}
    (mode,) = pulled("power-mode", plan)
    name, kept = mode.removeprefix("power mode ").split(": ")
    again = make_plan(
        QWEN,
        PICTURE,
        load_target(TIGHT, name),
        plan.budgets,
        plan.dtype,
        **options,  # type: ignore[arg-type]
    )
    assert kept == f"{again.keep_layers} of 28 layers fit"
    boards = pulled("board", plan)
    assert 1 <= len(boards) <= 3
    for line in boards:
        key = line.removeprefix("board ").partition(":")[0]
        assert (
            make_plan(
                QWEN,
                PICTURE,
                load_target(key),
                plan.budgets,
                plan.dtype,
                **options,  # type: ignore[arg-type]
            ).verdict
            == "dense"
        )
    (tokens,) = pulled("visual-tokens", plan)
    most = int(tokens.split()[2])
    for count, fits in ((most, True), (most + 1, False)):
        fewer = replace(PICTURE, visual_tokens=count)
        found = make_plan(
            QWEN,
            fewer,
            plan.target,
            plan.budgets,
            plan.dtype,
            **options,  # type: ignore[arg-type]
        )
        wanted = 28 if "all of 28" in tokens else plan.min_layers
        assert ((found.keep_layers or 0) >= wanted) is fits


def test_a_format_without_published_figures_is_said_to_be_so() -> None:
    """fp16 on Orin: fewer bits help, and what is borrowed is named."""
    budgets = Budgets(LatencyBudget(absolute_ms=60))
    plan = make_plan(QWEN, PICTURE, load_target("jetson-agx-orin-64gb@MAXN"), budgets, "fp16")
    assert plan.verdict != "dense"
    (line,) = pulled("weight-format", plan)
    assert line.startswith("weights in ")
    assert line.endswith("of 28 layers fit")


def test_cheap_changes_come_first() -> None:
    """Weight format, power mode, visual tokens, another board."""
    assert [lever.name for lever in sorted(LEVERS.values(), key=lambda lever: lever.cost)] == [
        "weight-format",
        "power-mode",
        "visual-tokens",
        "board",
    ]
    lines = advise(plan_for(TIGHT, confident=True), QWEN).advice
    words = ("power mode", "at most", "board")
    order = [next(i for i, line in enumerate(lines) if word in line) for word in words]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "plan",
    [
        plan_for("jetson-agx-orin-64gb@MAXN"),
        plan_for("jetson-agx-orin-64gb@MAXN", "60%"),
        make_plan(QWEN, PICTURE, load_target("jetson-thor"), Budgets(sparsity=0.5), "w4a16"),
    ],
    ids=["dense", "relative", "sparsity"],
)
def test_where_nothing_compares_there_is_no_advice(plan: Plan) -> None:
    """All layers fit; a share of the dense model on this target; a sparsity that was asked for."""
    assert advise(plan, QWEN).advice == ()


def test_a_profile_speaks_for_what_was_measured_alone() -> None:
    """With one, other formats, modes and boards are not compared."""
    plan = plan_for(TIGHT)
    assert advise(plan, QWEN, make_profile()).advice == ()


def test_fixed_pictures_cannot_be_made_smaller() -> None:
    """A tower of one size gives the same tokens whatever the picture, one for any size does not."""
    target = load_target("jetson-orin")
    for shape, helps in ((SHAPE, False), (QWEN, True)):
        dense = make_plan(shape, Workload(), target, Budgets(), "w4a16").dense.prediction.ttft_ms.value
        budgets = Budgets(LatencyBudget(absolute_ms=0.9 * dense))
        plan = make_plan(shape, Workload(), target, budgets, "w4a16")
        assert plan.verdict == "prune"
        assert (LEVERS["visual-tokens"].consider(plan, shape) is not None) is helps


@dataclass(frozen=True)
class Overclock:
    """A lever that a package brings."""

    name: str = "overclock"
    cost: int = 5

    def consider(self, plan: Plan, shape: ModelShape) -> Advice | None:
        return Advice((f"overclock the {plan.target.board.id}",))


def test_a_lever_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, it is asked, and its cost decides its place."""
    levers: Registry[Lever] = Registry("topovlm.levers", {"board": BoardLever, "overclock": Overclock})
    monkeypatch.setattr(advising, "LEVERS", levers)
    assert advise(plan_for(TIGHT), QWEN).advice[0] == "overclock the jetson-orin-nano-8gb"
