"""The training's course: its rate follows the time, it ends early where nothing is gained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.choose.heal.test_apply import ticking
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.heal.apply import heal_checkpoint
from topovlm.choose.heal.train import Recipe, rate_at
from topovlm.choose.record import HealRecord


def test_the_rate_warms_up_and_fades_with_the_time() -> None:
    """From a tenth to the peak within the warm-up, to nothing at the end, never up again."""
    recipe = Recipe(warmup=0.05)
    assert rate_at(0.0, recipe) == pytest.approx(0.1)
    rates = [rate_at(share / 100, recipe) for share in range(5, 101)]
    assert rates[0] > 0.99
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def course(dense: Path, slim: Path, recipe: Recipe) -> HealRecord:
    """Of a layer's removal, in a hundred readings of the clock."""
    prune_checkpoint(dense, slim, [3])
    return heal_checkpoint(
        dense,
        slim,
        [3],
        tiny.samples(8),
        held_out=tiny.samples(1, seed=2),
        confirm=tiny.samples(2, seed=1),
        duration_s=100,
        max_new_tokens=2,
        recipe=recipe,
        clock=ticking(),
    )


def test_it_stops_when_a_quarter_of_the_time_has_brought_nothing(
    tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """Steps of no size gain nothing: it ends at a quarter, and with patience for more at the end."""
    early, late = (
        course(tiny_siglip_qwen2, tmp_path / str(patience), Recipe(rate=0.0, patience=patience))
        for patience in (0.25, 2.0)
    )
    assert early.stopped_early
    assert 25 <= early.seconds < 35
    assert not late.stopped_early
    assert late.seconds >= 100
    assert (late.best_step, late.kept) == (0, False)


def test_steps_that_throw_a_model_far_become_shorter(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Thousands of times too long at first, and yet held-out samples gain."""
    recipe = Recipe(rate=30.0, shorter=0.1, patience=1.0)
    found = course(tiny_siglip_qwen2, tmp_path / "slim", recipe)
    assert found.held_out_best < found.held_out_before
    assert found.relative_rate < 1
