"""Scorers: definitions checked by hand on states whose structure is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm.choose.scorers import (
    SCORERS,
    equivalent_eps,
    score,
    score_all,
    select,
    select_over_threshold,
)
from topovlm.errors import InputError


def _states(layers: int = 8, samples: int = 40, width: int = 6, seed: int = 0) -> np.ndarray:
    """A random walk: each block adds noise to the stream, blocks 3 and 4 next to none."""
    rng = np.random.default_rng(seed)
    steps = (
        rng.normal(size=(layers, samples, width)) * np.array([1, 1, 1, 0.01, 0.01, 1, 1, 1])[:, None, None]
    )
    return np.cumsum(steps, axis=0).astype(np.float32)


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_every_scorer_gives_one_finite_number_per_layer(name: str) -> None:
    """JSON-able, deterministic, and the order follows the scores."""
    states = _states()
    result = score(states, name, k=5)
    assert result == score(states, name, k=5)
    assert len(result.scores) == 8
    assert np.isfinite(result.scores).all()
    assert sorted(result.order) == list(range(8))
    assert all(
        result.scores[a] >= result.scores[b] for a, b in zip(result.order, result.order[1:], strict=False)
    )
    json.dumps(result.to_dict(), allow_nan=False)
    assert score_all(states, 5)[name] == result


@pytest.mark.parametrize("name", ["zigzag", "block-influence", "angular"])
def test_idle_blocks_rank_first(name: str) -> None:
    """Blocks that hardly move the stream are proposed before those that do."""
    order = score(_states(), name, k=5).order
    if name == "zigzag":  # the clouds after blocks 2, 3 and 4 are alike
        assert set(order[:3]) == {2, 3, 4}
    else:
        assert set(order[:2]) == {3, 4}


def test_block_influence_is_the_mean_cosine() -> None:
    """Against numpy on float64, sample by sample."""
    states = _states()
    expected = [
        np.mean(
            [
                a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                for a, b in zip(states[i - 1], states[i], strict=True)
            ]
        )
        for i in range(1, 8)
    ]
    np.testing.assert_allclose(score(states, "block-influence").scores[1:], expected, rtol=1e-5)


def test_angular_proposes_the_closest_window() -> None:
    """The top `drop_count` layers are one contiguous window, and protected layers stay out of it."""
    states = _states()
    distance = lambda a, b: np.mean(  # noqa: E731
        [
            np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
            for x, y in zip(states[a], states[b], strict=True)
        ]
    )
    start = min(range(1, 6), key=lambda s: distance(s - 1, s + 2))
    assert sorted(score(states, "angular", drop_count=3).order[:3]) == [start, start + 1, start + 2]
    guarded = score(states, "angular", drop_count=2, protected={3, 4})
    assert not {3, 4} & set(guarded.order[:2])


def test_depth_prior_and_random_do_not_look() -> None:
    """Other states, same scores; another seed, another order; the prior is centred at 0.7 of the depth."""
    assert score(_states(seed=1), "depth-prior").order == score(_states(seed=2), "depth-prior").order
    assert score(_states(), "depth-prior").order[0] == 5
    assert score(_states(seed=1), "random", seed=3).scores == score(_states(seed=2), "random", seed=3).scores
    assert score(_states(), "random", seed=3).scores != score(_states(), "random", seed=4).scores


def test_zigzag_is_the_mean_persistence_of_loops() -> None:
    """A ring that keeps its neighbours in every layer persists: all scores are one."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    # One loop through all layers; distinct radii keep neighbours, so the complexes coincide.
    states = np.stack([ring * (1 + layer) for layer in range(5)])
    result = score(states, "zigzag", k=2)
    assert result.extra["betti"][1] == [1] * 5
    assert result.scores == [1.0] * 5


def test_zigzag_seed_reports_its_threshold() -> None:
    """Layers over eps * max are listed, as in the paper's rule without a budget."""
    result = score(_states(), "zigzag-seed", k=5, eps=0.8)
    listed = select_over_threshold(result.scores, 0.8)
    assert result.extra["over_threshold"] == listed
    assert result.extra["alpha"] == 1.0


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.sets(st.integers(0, 19)),
    st.integers(0, 20),
)
def test_select_takes_the_best_unprotected_layers(scores: list[float], guarded: set[int], count: int) -> None:
    """Ascending, of the size asked, no protected layer, none left out that scores higher."""
    free = [layer for layer in range(len(scores)) if layer not in guarded]
    if count > len(free):
        with pytest.raises(InputError, match="not protected"):
            select(scores, count, guarded)
        return
    dropped = select(scores, count, guarded)
    assert dropped == sorted(set(dropped))
    assert len(dropped) == count
    assert set(dropped) <= set(free)
    left = [scores[layer] for layer in free if layer not in dropped]
    assert not dropped or not left or min(scores[layer] for layer in dropped) >= max(left)


def test_equivalent_eps_is_the_share_of_the_maximum() -> None:
    """The threshold that would have dropped the same layers."""
    assert equivalent_eps([0.2, 0.8, 1.0], [1]) == 0.8
    assert equivalent_eps([0.0, 0.0], [1]) is None
    assert equivalent_eps([0.5], []) is None


def test_bad_requests_are_refused() -> None:
    """Unknown scorer, wrong shape, values that are not finite, an impossible threshold."""
    with pytest.raises(InputError, match="zigzag-seed"):
        score(_states(), "magic")
    with pytest.raises(InputError, match="layers, samples, width"):
        score(np.zeros((3, 4)), "zigzag")
    states = _states()
    states[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        score(states, "zigzag")
    with pytest.raises(InputError, match="eps"):
        select_over_threshold([1.0], 1.5)
