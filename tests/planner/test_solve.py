"""Plans: the largest model that fits, and what binds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.predict.profiles import make_profile
from tests.predict.test_measured import SHAPE, WORKLOAD
from topovlm.errors import InputError
from topovlm.families.known_models import known_model, list_known_models
from topovlm.planner.solve import Budgets, Plan, make_plan
from topovlm.predict.target import load_target
from topovlm.units import LatencyBudget
from topovlm.workload import Workload

QWEN = known_model("qwen3-vl-2b").shape()
PICTURE = Workload(visual_tokens=265, prompt_tokens=27)
PROTECTED = (0, 1, 2, 26, 27)


def plan_for(target: str, budget: str | None = "200ms", **options: object) -> Plan:
    """Qwen3-VL-2B, W4A16, 265 visual tokens, first three and last two layers protected."""
    latency = LatencyBudget.parse(budget) if budget else None
    options = {"protected": PROTECTED, **options}
    return make_plan(QWEN, PICTURE, load_target(target), Budgets(latency), "w4a16", **options)  # type: ignore[arg-type]


def test_a_roomy_board_keeps_every_layer() -> None:
    """AGX Orin at full clocks: 39.0 + 50.0 ms are published, so 200 ms is no reason to prune."""
    plan = plan_for("jetson-agx-orin-64gb@MAXN", confident=True)
    assert (plan.verdict, plan.keep_layers, plan.drop_count) == ("dense", 28, 0)


def test_the_vision_tower_is_named_as_the_floor() -> None:
    """Orin Nano at 15 W: 151 ms of 200 are the tower's; a handful of layers is left, or none."""
    plan = plan_for("jetson-orin-nano-8gb@15W")
    assert plan.verdict == "prune"
    assert plan.keep_layers is not None
    assert 5 <= plan.keep_layers <= 9
    assert plan.floor.name == "vision"
    assert "of 200 ms" in plan.floor.text
    assert 0.7 <= plan.dense.prediction.vision_ms.value / 200 <= 0.85
    strict = plan_for("jetson-orin-nano-8gb@15W", confident=True)
    assert (strict.verdict, strict.keep_layers, strict.chosen) == ("infeasible", None, None)
    assert "alone takes" in strict.summary()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list_known_models()),
    st.sampled_from(["jetson-orin-nano@15W", "jetson-orin", "jetson-thor", "rtx-4060"]),
    st.floats(20, 3000),
    st.booleans(),
)
def test_the_plan_is_the_largest_that_fits(model, target: str, budget_ms: float, confident: bool) -> None:  # type: ignore[no-untyped-def]
    """The chosen depth meets every limit, one more layer does not; infeasible: not even one layer fits."""
    budgets = Budgets(LatencyBudget(absolute_ms=budget_ms))
    plan = make_plan(model.shape(), Workload(), load_target(target), budgets, "fp16", confident=confident)
    usable = plan.target.usable_memory_bytes()

    def fits(keep: int) -> bool:
        found = plan.rows[keep - 1].prediction
        latency, memory = found.ttft_ms, found.memory_bytes
        if confident:
            return latency.high <= budget_ms and memory.high <= usable
        return latency.value <= budget_ms and memory.value <= usable

    kept = plan.keep_layers or 0
    assert kept == 0 or fits(kept)
    assert kept == plan.total_layers or not fits(kept + 1)
    assert plan.verdict == {0: "infeasible", plan.total_layers: "dense"}.get(kept, "prune")


def test_a_looser_budget_never_keeps_fewer_layers() -> None:
    """Monotone in the budget."""
    kept = [plan_for("jetson-orin-nano@25W", f"{ms}ms").keep_layers or 0 for ms in range(100, 300, 20)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def test_a_relative_budget_is_a_share_of_the_dense_model() -> None:
    """60 % of the dense prediction on the same target and workload."""
    plan = plan_for("jetson-agx-orin-64gb@MAXN", "60%")
    dense = plan.dense.prediction.ttft_ms.value
    assert plan.budget_ms == pytest.approx(0.6 * dense)
    assert plan.verdict == "prune"
    assert plan.chosen is not None
    assert plan.chosen.prediction.ttft_ms.value <= 0.6 * dense
    assert plan.record().budgets.max_latency == LatencyBudget(share_of_dense=0.6)


@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 28), (0.25, 21), (0.3, 19), (0.5, 14)])
def test_sparsity_drops_at_least_that_share(sparsity: float, kept: int) -> None:
    """sparsity = 1 - n/L; 0.3 of 28 is 8.4 layers, so 9 go."""
    plan = make_plan(QWEN, PICTURE, load_target("jetson-thor"), Budgets(sparsity=sparsity), "w4a16")
    assert plan.keep_layers == kept
    assert plan.floor.name == ("sparsity" if kept < 28 else "none")


def test_every_budget_can_bind() -> None:
    """Per-token latency and memory have floors of their own; the board's memory counts unasked."""
    target = load_target("jetson-agx-orin-64gb@MAXN")
    token = make_plan(QWEN, PICTURE, target, Budgets(max_token_latency_ms=6), "w4a16")
    assert (token.verdict, token.floor.name) == ("prune", "per-token")
    memory = make_plan(QWEN, PICTURE, target, Budgets(max_memory_bytes=4 * 2**30), "w4a16")
    assert (memory.verdict, memory.floor.name) == ("prune", "memory")
    assert "4.00 GiB of the budget" in memory.floor.text
    big = make_plan(
        known_model("qwen3-vl-8b").shape(), PICTURE, load_target("jetson-orin-nano-4gb"), Budgets()
    )
    assert (big.verdict, big.floor.name) == ("infeasible", "memory")
    assert "jetson-orin-nano-4gb leaves free" in big.floor.text


def test_protected_layers_are_the_least_that_stays() -> None:
    """A budget for three layers is infeasible when five must stay."""
    free = plan_for("jetson-orin-nano@15W", "175ms", protected=())
    assert free.keep_layers is not None
    assert free.keep_layers < 5
    held = plan_for("jetson-orin-nano@15W", "175ms")
    assert (held.min_layers, held.verdict) == (5, "infeasible")
    with pytest.raises(InputError, match=r"protected = \[28\].*0..27"):
        plan_for("jetson-orin", protected=[28])


def test_new_tokens_make_the_budget_end_to_end() -> None:
    """With several new tokens the latency is the whole answer, and is named so."""
    one = plan_for("jetson-agx-orin-64gb@MAXN", "500ms")
    assert one.latency_name == "time to first token"
    workload = Workload(visual_tokens=265, prompt_tokens=27, new_tokens=100)
    budgets = Budgets(LatencyBudget(absolute_ms=500))
    many = make_plan(QWEN, workload, load_target("jetson-agx-orin-64gb@MAXN"), budgets, "w4a16")
    assert many.latency_name == "end to end (100 new tokens)"
    assert (many.keep_layers or 0) < 28


def test_a_profile_decides_when_there_is_one() -> None:
    """2 + 1 + 0.5 n ms against a budget of 60 % of 11 ms: seven layers, from the profile."""
    budgets = Budgets(LatencyBudget(share_of_dense=0.6))
    workload = Workload(prompt_tokens=WORKLOAD.prompt_tokens)
    plan = make_plan(SHAPE, workload, load_target("local"), budgets, "fp32", profile=make_profile())
    assert plan.keep_layers == 7
    assert "profile measured on local" in plan.source
    assert plan.runtime == "onnxruntime-cpu"


def test_the_build_on_a_small_board_is_warned_about() -> None:
    """An engine build may need several times the weights: said before it fails."""
    plan = make_plan(
        known_model("qwen2.5-vl-7b").shape(), PICTURE, load_target("jetson-orin-nano-8gb"), Budgets(), "w4a16"
    )
    assert any("building the engine" in note for note in plan.notes)
    assert plan_for("jetson-agx-orin-64gb@MAXN").notes == ()


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"sparsity": 1.0}, "--sparsity = 1.0"),
        ({"sparsity": -0.1}, "--sparsity = -0.1"),
        ({"max_token_latency_ms": 0}, "max_token_latency_ms = 0"),
        ({"max_memory_bytes": -1}, "max_memory_bytes = -1"),
    ],
)
def test_impossible_budgets_are_refused(budgets: dict[str, float], message: str) -> None:
    """Field, value, rule."""
    with pytest.raises(InputError, match=message):
        Budgets(**budgets)  # type: ignore[arg-type]


def test_one_command_shows_every_board_and_mode(capsys: pytest.CaptureFixture[str]) -> None:
    """The committed command: the Nano at 15 W is refused once the interval counts, AGX Orin is dense."""
    from benchmarks.plan_boards import main

    assert main(["--family", "jetson-orin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    nano = next(line for line in lines if "nano-8gb@15W" in line)
    agx = next(line for line in lines if "agx-orin-64gb@MAXN" in line)
    assert "refused" in nano
    assert "vision encoder alone" in nano
    assert agx.count("28/28 dense") == 2
