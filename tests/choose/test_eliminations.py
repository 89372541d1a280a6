"""Greedy elimination: against plain passes of transformers, layer by layer, and against tables of prices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny, tiny_families
from topovlm.checkpoint.files import content_hash, open_checkpoint
from topovlm.checkpoint.live import Live, bypassed, encode, greedy, load
from topovlm.choose.eliminations import collect_elimination, eliminate
from topovlm.choose.judge_shards import elimination_in_shards
from topovlm.choose.shards import prompt_lengths, torch_model
from topovlm.samples import Sample
from topovlm.workers.pool import HERE


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


class Priced:
    """A judge with a price per layer, and one for pairs that must not go together."""

    def __init__(self, prices: Sequence[float], pairs: dict[tuple[int, int], float] | None = None) -> None:
        self.prices, self.pairs = prices, pairs or {}

    def kls(self, drops: Sequence[Collection[int]]) -> list[float]:
        return [self.kl(drop) for drop in drops]

    def kl(self, drop: Collection[int]) -> float:
        both = sum(price for pair, price in self.pairs.items() if set(pair) <= set(drop))
        return sum(self.prices[layer] for layer in sorted(drop)) + both


def _order(found: np.ndarray) -> list[int]:
    return [int(layer) for layer in np.argsort(found[0])]


class Plain:
    """KL by forward passes of the whole model over its own answers, sample by sample."""

    def __init__(self, live: Live, samples: Sequence[Sample]) -> None:
        self.live = live
        self.prompts = [encode(live, sample) for sample in samples]
        self.answers = [greedy(live, [prompt], 32)[0] for prompt in self.prompts]
        self.dense = self._log_probabilities()

    @torch.inference_mode()
    def _log_probabilities(self) -> list[torch.Tensor]:
        found = []
        for prompt, answer in zip(self.prompts, self.answers, strict=True):
            ids = torch.cat([prompt.input_ids, torch.tensor(answer)])[None]
            logits = self.live.model(input_ids=ids, **prompt.extra, use_cache=False).logits
            found.append(logits[0, prompt.length - 1 : -1].double().log_softmax(-1))
        return found

    def kl(self, drop: Collection[int]) -> float:
        with bypassed(self.live, drop):
            slim = self._log_probabilities()
        pairs = zip(self.dense, slim, strict=True)
        return float(np.mean([float((p.exp() * (p - q)).sum(-1).mean()) for p, q in pairs]))


def test_each_round_takes_the_layer_that_plain_passes_miss_least(live: Live) -> None:
    """Three rounds of five layers, and the last round's ranking of the two that stay; one is protected."""
    samples = tiny.samples(3)
    plain = Plain(live, samples)
    seen: list[tuple[int, int]] = []
    found = collect_elimination(live, samples, {0}, progress=lambda *now: seen.append(now))
    gone: list[int] = []
    while len(gone) < 3:
        values = {layer: plain.kl({*gone, layer}) for layer in range(1, 6) if layer not in gone}
        ranked = sorted(values, key=lambda layer: values[layer])
        gone.append(ranked[0])
        assert found[1, gone[-1]] == pytest.approx(values[gone[-1]], rel=1e-3)
    assert _order(found) == [*gone, *ranked[1:], 0]
    assert np.isnan(found[1, [*ranked[1:], 0]]).all()
    assert seen == [(5, 12), (9, 12), (12, 12)]


def test_a_model_in_its_files_and_shards_give_the_same(live: Live) -> None:
    """Every bit; the last batch is not full."""
    samples = tiny.samples(9)
    here = collect_elimination(live, samples, {0, 5})
    mapped = load(live.folder, mapped=True)
    np.testing.assert_array_equal(collect_elimination(mapped, samples, {0, 5}), here)
    checkpoint = open_checkpoint(live.folder)
    model = torch_model(checkpoint, content_hash(live.folder), "float32")
    lengths = prompt_lengths(live.processor, checkpoint, samples)
    shards = elimination_in_shards(HERE, model, checkpoint, samples, lengths, protected={0, 5})
    np.testing.assert_array_equal(shards, here)


def test_layers_that_are_tied_to_their_place_stay(tmp_path: Path) -> None:
    """DeepStack's first layers are behind all others, and no set without them is judged; in shards, too."""
    live = load(tiny_families.build(tmp_path / "model", "qwen3_vl", layers=5))
    samples = tiny_families.samples("qwen3_vl")[:3]
    found = collect_elimination(live, samples)
    checkpoint = open_checkpoint(live.folder)
    tied = sorted(checkpoint.facts.protected_layers() - {4})
    assert tied
    assert _order(found)[-len(tied) :] == tied
    assert np.isfinite(found[1]).sum() == 2
    model = torch_model(checkpoint, content_hash(live.folder), "float32")
    lengths = prompt_lengths(live.processor, checkpoint, samples)
    np.testing.assert_array_equal(elimination_in_shards(HERE, model, checkpoint, samples, lengths), found)


PRICES = st.lists(st.floats(0.01, 10), min_size=1, max_size=10)


@given(prices=PRICES, data=st.data())
@settings(deadline=None)
def test_the_first_of_the_order_are_what_greedy_would_drop(prices: list[float], data: st.DataObject) -> None:
    """For any number up to half of the layers, whatever pairs cost; a protected layer never goes before one
    that may."""
    layers = len(prices)
    numbers = st.integers(0, layers - 1)
    guarded = data.draw(st.sets(numbers, max_size=3))
    pairs = data.draw(st.dictionaries(st.tuples(numbers, numbers), st.floats(0, 5), max_size=6))
    judge = Priced(prices, pairs)
    found = eliminate(judge, layers, guarded)
    order, free = _order(found), set(range(layers)) - guarded
    assert sorted(order) == list(range(layers))
    assert set(order[: len(free)]) == free
    for count in range(min(layers // 2, len(free))):
        kept, took = free - set(order[:count]), found[1, order[count]]
        assert took == min(judge.kl({*order[:count], layer}) for layer in kept)
        assert took == judge.kl(order[: count + 1])


def test_of_two_that_do_the_same_one_goes() -> None:
    """Alone each looks needless: ranked once, both would go first."""
    judge = Priced([9, 0.1, 0.2, 0.5, 0.6, 9], {(1, 2): 7.0})
    found = eliminate(judge, 6)
    assert _order(found) == [1, 3, 4, 2, 0, 5]
    np.testing.assert_allclose(found[1, [1, 3, 4]], [0.1, 0.6, 1.2])


def test_what_is_no_number_goes_last_of_those_that_may() -> None:
    """Half precision may run over where a layer is missing."""
    found = eliminate(Priced([np.nan, 2.0, 1.0, 3.0]), 4, {3})
    assert _order(found) == [2, 1, 0, 3]


def test_where_all_are_protected_nothing_is_judged() -> None:
    """By depth, without a figure."""
    found = eliminate(Priced([]), 2, {0, 1})
    assert _order(found) == [0, 1]
    assert np.isnan(found[1]).all()
