"""Scorers of the field and beyond the seed, each against another way to compute it or a known shape."""

from __future__ import annotations

import importlib.util
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import rankdata

from topovlm.choose.scorers import Settings, find_scorer
from topovlm.choose.scorers.bypass_consistency import agreement
from topovlm.choose.scorers.cosines import cosines
from topovlm.choose.scorers.spread import cosine_map
from topovlm.choose.scoring import score
from topovlm.errors import MissingToolError


def _states(layers: int = 6, samples: int = 30, width: int = 5, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(layers, samples, width))
    return np.cumsum(steps, axis=0).astype(np.float32)


def _ring(points: int = 42, radius: float = 1.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_cka_is_the_formula_of_features() -> None:
    """Kornblith et al.'s equation on covariances of the features, not on inner products of the points."""
    states = _states()
    expected = []
    for before, after in pairwise(states):
        x, y = (cloud - cloud.mean(0) for cloud in (before.astype(float), after.astype(float)))
        cross, own, other = x.T @ y, x.T @ x, y.T @ y
        expected.append((cross**2).sum() / np.sqrt((own**2).sum() * (other**2).sum()))
    np.testing.assert_allclose(score(states, "cka").scores[1:], expected, rtol=1e-6)


def test_cka_looks_at_the_clouds_that_were_asked_for() -> None:
    """And sees neither a turn nor a scale of a whole cloud."""
    cloud = _states()[0]
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    points = np.stack([cloud, 3 * cloud @ turn + 2, _states(seed=5)[2]]).astype(np.float32)
    found = score(_states(3), "cka", Settings(points=points)).scores
    assert found[1] == pytest.approx(1.0, abs=1e-6)
    assert found[2] < 0.9


def test_magnitude_is_the_length_of_what_is_added() -> None:
    """By hand: a step of 3 that ends at length 5, and one of 1 that ends at 2."""
    states = np.array([[[0, 4], [1, 0]], [[3, 4], [2, 0]]], dtype=np.float32)
    assert score(states, "magnitude").scores[1] == pytest.approx(1 - (3 / 5 + 1 / 2) / 2)


def test_reverse_order_goes_from_the_back() -> None:
    """Whatever the model."""
    assert score(_states(), "reverse-order").order == (5, 4, 3, 2, 1, 0)


def test_rank_average_is_the_mean_of_two_rankings() -> None:
    """Zigzag's and block influence's, ties at their mean, the best at the top."""
    states, settings = _states(samples=80), Settings(k=4)
    ranks = [rankdata([-one for one in score(states, name, settings).scores]) for name in _AVERAGED]
    found = score(states, "rank-average", settings)
    assert "stand_in" not in found.extra
    np.testing.assert_allclose(found.scores, 1 - (np.mean(ranks, axis=0) - 1) / 5)


_AVERAGED = ("zigzag", "block-influence")


def test_spread_takes_from_every_cluster_first() -> None:
    """Two stretches of like layers: one of each goes before any of them gives a second one."""
    rng = np.random.default_rng(0)
    early, late = rng.normal(size=(2, 50, 40))
    states = np.stack([base + 0.2 * rng.normal(size=(50, 40)) for base in (early, late) for _ in range(4)])
    found = score(states.astype(np.float32), "spread", Settings(protected=frozenset({0, 7})))
    assert found.extra["clusters"] == 2
    first = found.order[:6]
    assert {layer // 4 for layer in first[:2]} == {0, 1}
    assert not {0, 7} & set(first)
    similarity = cosine_map(states)
    pairs = [[cosines(one, other).mean() for other in states] for one in states]
    np.testing.assert_allclose(similarity, pairs)
    redundancy = {layer: similarity[layer, [m for m in range(4) if m != layer]].mean() for layer in (1, 2, 3)}
    assert first[0] == max(redundancy, key=lambda layer: redundancy[layer])
    assert found.extra["locality"] == pytest.approx(
        -np.log2(similarity[np.triu_indices(8, 1)].mean()), abs=1e-4
    )


def test_persistence_knows_shapes_and_not_scales() -> None:
    """A ring has one lasting loop; larger it is the same, two rings are something else."""
    pytest.importorskip("gudhi", reason="gudhi has no wheel for this machine")
    from topovlm.choose.scorers.persistence import diagrams

    ring = _ring()
    two = np.concatenate([_ring(21), _ring(21) + np.array([5, 0])])
    components, holes = diagrams(ring)
    assert len(components) == 41
    births, deaths = holes.T
    assert (deaths - births > 0.5).sum() == 1
    # The loop closes at the side of the polygon, and is filled by the triangle: sqrt 3 of the radius.
    scale = np.median(np.linalg.norm(ring[:, None] - ring[None], axis=2)[np.triu_indices(42, 1)])
    lasting = holes[np.argmax(deaths - births)]
    assert lasting[0] == pytest.approx(2 * np.sin(np.pi / 42) / scale, rel=1e-5)
    assert lasting[1] == pytest.approx(np.sqrt(3) / scale, rel=1e-5)
    points = np.stack([ring, 100 * ring + 7, two]).astype(np.float32)
    found = score(_states(3), "persistence", Settings(points=points)).scores
    assert found[1] == pytest.approx(1.0, abs=1e-4)
    assert found[2] < 0.9


def test_persistence_without_its_package_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything runs."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingToolError, match=r"topovlm\[persistence\]"):
        find_scorer("persistence").ready()


def test_agreement_is_the_share_of_common_neighbours() -> None:
    """Whatever their order: two of two, one of two, none."""
    one = np.array([[1, 2], [0, 2], [0, 1]])
    other = np.array([[2, 1], [0, 3], [3, 4]])
    assert agreement(one, other) == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_layer_whose_absence_scatters_the_neighbours_stays() -> None:
    """Of three, one changes nothing, one a little, one everything; turned and scaled clouds are the same."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(60, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    clouds = [3 * dense @ turn, dense + 0.2 * rng.normal(size=(60, 6)), rng.normal(size=(60, 6)), dense]
    found = score(_states(3), "bypass-consistency", Settings(bypassed=np.stack(clouds).astype(np.float32)))
    assert found.scores[0] > 0.99
    assert found.order == (0, 1, 2)
    assert found.scores[2] < 0.35


def test_bypass_zigzag_counts_the_loops_that_live_on() -> None:
    """Six rings: a cloud that keeps three of them, one that keeps all, one that keeps none."""
    shifts = [np.array([100.0 * number, 0]) for number in range(6)]
    rings = np.concatenate([_ring(24) + shift for shift in shifts])
    half = np.concatenate(
        [_ring(24, 1.0 if number < 3 else 0.0) + shift for number, shift in enumerate(shifts)]
    )
    half[72:, 0] += np.tile(np.arange(24), 3) * 0.01  # the others are lines
    line = np.stack([np.arange(144.0), np.zeros(144)], axis=1)
    bypassed = np.stack([half, 2 * rings, line, rings]).astype(np.float32)
    found = score(_states(3), "bypass-zigzag", Settings(bypassed=bypassed))
    assert found.extra["loops"] == 6
    assert found.scores == pytest.approx((0.5, 1.0, 0.0))


def test_bypass_zigzag_without_loops_lets_another_score() -> None:
    """A handful of samples has none."""
    few = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    assert score(_states(3), "bypass-zigzag", Settings(bypassed=few)).extra["stand_in"] == "block-influence"


def test_fisher_lets_the_least_informative_layer_go() -> None:
    """Half the information, negative: what the KL would grow by, at the least."""
    found = score(_states(3), "fisher", Settings(sensitivity=np.array([4.0, 0.5, 1.0])))
    assert found.scores == (-2.0, -0.25, -0.5)
    assert found.order == (1, 2, 0)


def test_greedy_lets_layers_go_in_the_order_of_their_elimination() -> None:
    """Whatever the KL at which they went, which the report tells of those that really did."""
    elimination = np.array([[3.0, 1.0, 0.0, 2.0], [np.nan, 0.25, 0.5, np.nan]])
    found = score(_states(4), "greedy", Settings(elimination=elimination))
    assert found.order == (2, 1, 3, 0)
    assert found.scores == (0.25, 0.75, 1.0, 0.5)
    assert found.extra == {"eliminated": 2, "measured_nats": "2: 0.5; 1: 0.25"}
