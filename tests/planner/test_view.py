"""Plans, boards and targets on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from tests.planner.test_solve import QWEN, plan_for
from topovlm.planner.advice import advise
from topovlm.planner.target_view import render_target, render_targets
from topovlm.planner.view import render_plan
from topovlm.predict.target import list_boards, load_target


def test_a_plan_renders_for_people() -> None:
    """Verdict, floor and advice are on the screen; the row that was chosen is shown."""
    screen = io.StringIO()
    plan = advise(plan_for("jetson-orin-nano@15W"), QWEN)
    render_plan(plan, Console(file=screen, width=160))
    text = screen.getvalue()
    for part in ("PRUNE", "predicted from", "vision encoder alone", f"{plan.keep_layers}/28"):
        assert part in text
    for line in ("What would help", *plan.advice):
        assert line in text


def test_targets_render_for_people() -> None:
    """Every board has its line; one target shows its alias, its modes and the software that it runs."""
    screen = io.StringIO()
    console = Console(file=screen, width=160)
    render_targets(list_boards(), console)
    render_target(load_target("jetson-orin"), console)
    text = screen.getvalue()
    for board in list_boards():
        assert board.id in text
    assert "is an alias" in text
    orin = load_target("jetson-orin").board
    for mode in orin.modes:
        assert mode.name in text
    for software in orin.software:
        assert f"Software jetpack {software.jetpack}, l4t {software.l4t}" in text
