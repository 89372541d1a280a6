"""Scorers: definitions checked by hand on states whose structure is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm.choose.record import Scores
from topovlm.choose.scorers import SCORERS, Scorer, Settings, find_scorer, scorers_for
from topovlm.choose.scoring import (
    barcode_from,
    count_bars,
    equivalent_eps,
    propose,
    score,
    score_all,
    score_for,
    select,
)
from topovlm.errors import InputError
from topovlm.records import decode, encode
from topovlm.topology.zigzag import zigzag_barcode


def _states(layers: int = 8, samples: int = 40, width: int = 6, seed: int = 0) -> np.ndarray:
    """A random walk: each block adds noise to the stream, blocks 3 and 4 next to none."""
    rng = np.random.default_rng(seed)
    steps = (
        rng.normal(size=(layers, samples, width)) * np.array([1, 1, 1, 0.01, 0.01, 1, 1, 1])[:, None, None]
    )
    return np.cumsum(steps, axis=0).astype(np.float32)


def _bypassed(samples: int = 64, seed: int = 0) -> np.ndarray:
    """The last cloud without each of eight layers: 3 and 4 change next to nothing, the others much."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(samples, 4))
    sizes = np.array([1, 1, 1, 0.01, 0.01, 1, 1, 1, 0])[:, None, None]
    return (dense + sizes * rng.normal(size=(9, samples, 4))).astype(np.float32)


ELIMINATION = np.array([[6, 4, 5, 0, 1, 2, 3, 7], [np.nan, np.nan, np.nan, 0.1, 0.3, 0.2, 0.5, np.nan]])
K5 = Settings(k=5, bypassed=_bypassed(), sensitivity=np.arange(8.0)[::-1], elimination=ELIMINATION)
ASKED_FOR = ("persistence", "bypass-consistency", "bypass-zigzag", "fisher", "greedy")


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_every_scorer_gives_one_finite_number_per_layer(name: str) -> None:
    """Deterministic, the order follows the scores, and a shared barcode changes nothing."""
    _ask_for_gudhi(name)
    states = _states()
    result = score(states, name, K5)
    assert result == score(states, name, K5)
    assert len(result.scores) == 8
    assert np.isfinite(result.scores).all()
    assert sorted(result.order) == list(range(8))
    assert all(
        result.scores[a] >= result.scores[b] for a, b in zip(result.order, result.order[1:], strict=False)
    )
    shared = replace(K5, barcode=zigzag_barcode(states, k=5))
    assert score_all(states, shared, (name,))[name] == result


def _ask_for_gudhi(name: str) -> None:
    if name == "persistence":
        pytest.importorskip("gudhi", reason="gudhi has no wheel for this machine")


def test_what_costs_much_scores_only_where_it_is_asked_for() -> None:
    """All others run beside the one that is asked for, in the order of the registry."""
    cheap = tuple(name for name in SCORERS if name not in ASKED_FOR)
    assert tuple(score_all(_states(), Settings(k=5))) == cheap
    assert tuple(score_all(_states(), K5, ("fisher",))) == scorers_for(("fisher",))
    assert set(scorers_for(("fisher",))) - set(cheap) == {"fisher"}
    with pytest.raises(LookupError, match="`sensitivity`"):
        score(_states(), "fisher", Settings(k=5))


def test_a_scorer_that_is_asked_again_later_needs_what_is_kept() -> None:
    """States and barcode are; clouds are not."""
    with pytest.raises(ValueError, match="may need `states` and `barcode` alone"):
        replace(find_scorer("cka"), depends_on_count=True)


def test_a_need_that_nobody_knows_is_refused() -> None:
    """By name, when the scorer is made."""
    with pytest.raises(ValueError, match="mine: needs gradients, which nobody collects"):
        replace(find_scorer("cka"), name="mine", needs=frozenset({"gradients", "points"}))


def test_a_scorer_cannot_change_the_states_of_the_others() -> None:
    """All see the same array: one that writes into it fails, and the array stays."""

    def careless(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Mapping[str, object]]:
        states[:] = 0
        return np.zeros(len(states)), {}

    scorer = Scorer(name="careless", paper="none", why="it writes into what it was given", score=careless)
    states = _states()
    with pytest.raises(ValueError, match="read-only"):
        score(states, scorer, K5)
    assert np.array_equal(states, _states())


def test_every_scorer_has_a_reason_of_its_own() -> None:
    """No sentence of the report speaks of structure for a scorer that looks at none."""
    scorers = [find_scorer(name) for name in SCORERS]
    assert len({scorer.why for scorer in scorers}) == len(scorers)
    for scorer in scorers:
        topological = "barcode" in scorer.needs or scorer.name in ("persistence", "bypass-zigzag")
        assert ("loops" in scorer.why) == topological
        assert scorer.paper
    assert [scorer.name for scorer in scorers if not scorer.judged] == ["zigzag-seed"]


def test_scores_come_back_from_their_file_as_they_were() -> None:
    """Every scorer's figures and the barcode, bar by bar."""
    states = _states()
    barcode = zigzag_barcode(states, k=5)
    scores = Scores(
        scorer="zigzag",
        k=5,
        samples=40,
        sample_source="here",
        scorers=score_all(states, K5),
        barcode=count_bars(barcode),
    )
    again = decode(encode(scores), Scores, field="scores", name="scores.json")
    assert again == scores
    np.testing.assert_array_equal(barcode_from(again.barcode, 8).bars, barcode.bars)
    assert sum(row.count for row in again.barcode) == len(barcode.bars)


@pytest.mark.parametrize("name", ["zigzag", "block-influence", "angular"])
def test_idle_blocks_rank_first(name: str) -> None:
    """Blocks that hardly move the stream are proposed before those that do."""
    order = score(_states(), name, K5).order
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

    def distance(a: int, b: int) -> float:
        angles = [
            np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
            for x, y in zip(states[a], states[b], strict=True)
        ]
        return float(np.mean(angles))

    start = min(range(1, 6), key=lambda s: distance(s - 1, s + 2))
    three = score(states, "angular", Settings(drop_count=3))
    assert sorted(three.order[:3]) == [start, start + 1, start + 2]
    assert three.extra["window_start"] == start
    guarded = score(states, "angular", Settings(drop_count=2, protected=frozenset({3, 4})))
    assert not {3, 4} & set(guarded.order[:2])


def test_depth_prior_and_random_do_not_look() -> None:
    """Other states, same scores; another seed, another order; the prior is centred at 0.7 of the depth."""
    assert score(_states(seed=1), "depth-prior").order == score(_states(seed=2), "depth-prior").order
    assert score(_states(), "depth-prior").order[0] == 5
    three, four = Settings(seed=3), Settings(seed=4)
    assert score(_states(seed=1), "random", three).scores == score(_states(seed=2), "random", three).scores
    assert score(_states(), "random", three).scores != score(_states(), "random", four).scores


def test_zigzag_is_the_mean_persistence_of_loops() -> None:
    """Rings that keep their neighbours in every layer persist: all scores are one."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    rings = np.concatenate([ring + np.float32([100 * number, 0]) for number in range(6)])
    # Six loops through all layers; scaled alike, neighbours stay neighbours, so the complexes coincide.
    states = np.stack([rings * (1 + layer) for layer in range(5)])
    result = score(states, "zigzag", Settings(k=2))
    assert (result.extra["bars_h0"], result.extra["bars_h1"]) == (6, 6)
    assert result.scores == (1.0,) * 5


def test_where_there_are_no_loops_another_scorer_stands_in_and_says_so() -> None:
    """Fifteen neighbours among sixteen samples: each is everybody's neighbour, and no loop is left open."""
    states = _states(samples=16)
    result = score(states, "zigzag", Settings(k=15))
    assert result.scorer == "zigzag"
    assert result.extra["loops_per_layer"] == 0
    other = score(states, "block-influence", Settings(k=15))
    assert (result.scores, result.order, result.why) == (other.scores, other.order, other.why)
    assert result.extra["stand_in"] == "block-influence"
    assert "sees no loops" in str(result.extra["note"])
    assert "note" not in score(_states(samples=64), "zigzag", Settings(k=4)).extra


def test_zigzag_seed_reports_its_threshold() -> None:
    """Layers over eps * max are listed, as in the paper's rule without a budget."""
    result = score(_states(), "zigzag-seed", K5)
    listed = [layer for layer, value in enumerate(result.scores) if value >= 0.9 * max(result.scores)]
    assert result.extra["over_threshold"] == ", ".join(map(str, listed))
    assert (result.extra["eps"], result.extra["alpha"]) == (0.9, 1.0)


def test_scores_for_a_count_are_new_only_where_the_count_matters() -> None:
    """Each scorer's figures as if it had been asked for that count, and its equivalent threshold."""
    states = _states()
    scored = Scores(
        scorer="zigzag",
        k=5,
        samples=40,
        sample_source="here",
        scorers=score_all(states, K5),
        barcode=count_bars(zigzag_barcode(states, k=5)),
    )
    settings = Settings(drop_count=3, protected=frozenset({0, 7}))
    found = score_for(states, scored, settings)
    direct = score_all(states, Settings(k=5, drop_count=3, protected=frozenset({0, 7})))
    assert {name: result.scores for name, result in found.items()} == {
        name: result.scores for name, result in direct.items()
    }
    assert found["angular"].scores != scored.scorers["angular"].scores
    for name, dropped in propose(found, 3, {0, 7}).items():
        values = found[name].scores
        share = min(values[layer] for layer in dropped) / max(values)
        assert found[name].extra["equivalent_eps"] == pytest.approx(share, abs=1e-4)


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
    assert dropped == tuple(sorted(set(dropped)))
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
    """Unknown scorer, wrong shape, values that are not finite."""
    with pytest.raises(InputError, match="zigzag-seed"):
        score(_states(), "magic")
    with pytest.raises(InputError, match="layers, samples, width"):
        score(np.zeros((3, 4)), "zigzag")
    states = _states()
    states[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        score(states, "zigzag")


@pytest.mark.parametrize(
    ("values", "extra", "message"),
    [
        ([0.5] * 7, {}, "8 finite scores"),
        ([0.5] * 7 + [np.nan], {}, "8 finite scores"),
        ([0.5] * 8, {"curve": [1, 2]}, "figures for the report"),
    ],
)
def test_a_scorer_that_gives_nonsense_is_named(
    values: list[float], extra: Mapping[str, float], message: str
) -> None:
    """A plug-in's mistake is found where it is made, not in the report."""
    scorer = Scorer(name="mine", paper="", why="", score=lambda _states, _settings: (np.array(values), extra))
    with pytest.raises(InputError, match=message) as raised:
        score(_states(), scorer)
    assert "mine" in str(raised.value)


def test_figures_of_numpy_are_figures() -> None:
    """What a scorer computes need not be converted by its author."""
    scorer = Scorer(
        name="mine",
        paper="",
        why="",
        score=lambda states, _settings: (np.arange(len(states)), {"best": np.int64(7), "top": np.float32(1)}),
    )
    assert score(_states(), scorer).extra == {"best": 7, "top": 1.0}
