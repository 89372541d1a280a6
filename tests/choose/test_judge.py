"""The judge: its KL is that of transformers' own forward pass, whatever it caches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.live import Live, bypassed, encode, greedy, load
from topovlm.choose.judge import Judge
from topovlm.errors import InputError

SAMPLES = [*tiny.samples(7), *tiny.samples(2, seed=4, images=2)]


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def live(request: pytest.FixtureRequest) -> Live:
    return load(request.getfixturevalue(f"tiny_{request.param.replace('-', '_')}"))


@pytest.fixture(scope="module")
def judge(live: Live) -> Judge:
    return Judge(live, SAMPLES, max_new_tokens=5, batch_size=4)


def _oracle(live: Live, index: int, drop: list[int]) -> float:
    """KL of one sample by two plain forward passes of the whole model."""
    prompt = encode(live, SAMPLES[index])
    answer = greedy(live, [prompt], 5)[0]
    ids = torch.cat([prompt.input_ids, torch.tensor(answer)])[None]
    with torch.inference_mode():
        dense = live.model(input_ids=ids, **prompt.extra, use_cache=False).logits
        with bypassed(live, drop):
            slim = live.model(input_ids=ids, **prompt.extra, use_cache=False).logits
    log_p, log_q = (x[0, prompt.length - 1 : -1].double().log_softmax(-1) for x in (dense, slim))
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


@pytest.mark.parametrize("drop", [[0], [2], [5], [1, 4], [2, 3, 4]])
def test_kl_is_that_of_plain_forward_passes(live: Live, judge: Judge, drop: list[int]) -> None:
    """Sample by sample, against the whole model with layers bypassed."""
    values = judge.kl_per_sample(drop)
    for index in (0, 3, len(SAMPLES) - 1):
        assert values[index] == pytest.approx(_oracle(live, index, drop), rel=1e-3, abs=1e-5)
    assert judge.kl(drop) == pytest.approx(values.mean())
    assert judge.kl(drop) > 0.01


def test_nothing_dropped_costs_nothing(judge: Judge) -> None:
    """KL of the dense model to itself."""
    assert judge.kl([]) == pytest.approx(0, abs=1e-6)


def test_cache_and_batch_size_do_not_change_the_verdict(live: Live, judge: Judge) -> None:
    """With no room for cached streams, and one sample at a time."""
    frugal = Judge(live, SAMPLES, max_new_tokens=5, batch_size=1, cache_bytes=1)
    for drop in ([1], [4], [2, 3]):
        np.testing.assert_allclose(
            frugal.kl_per_sample(drop), judge.kl_per_sample(drop), rtol=1e-3, atol=1e-5
        )


def test_a_set_is_judged_once(live: Live) -> None:
    """Order and repetition of layers are the same question."""
    fresh = Judge(live, SAMPLES[:2], max_new_tokens=2)
    assert fresh.kl([1, 3]) == fresh.kl((3, 1))
    assert fresh.evaluations == 1


def test_no_samples_no_verdict(live: Live) -> None:
    """An empty list is refused."""
    with pytest.raises(InputError, match="held-out samples"):
        Judge(live, [])
