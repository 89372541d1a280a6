"""The judge: its KL is that of transformers' own forward pass, whatever it caches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.live import Live, bypassed, encode, greedy, load
from topovlm.choose.judge import Judge
from topovlm.errors import InputError

WIDE = 130_000  # entries of a vocabulary like a real model's
SAMPLES = [*tiny.samples(7), *tiny.samples(2, seed=4, images=2)]


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def live(request: pytest.FixtureRequest) -> Live:
    return load(request.getfixturevalue(f"tiny_{request.param.replace('-', '_')}"))


@pytest.fixture(scope="module")
def judge(live: Live) -> Judge:
    return Judge(live, SAMPLES, max_new_tokens=5, batch_size=4)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """With its vocabulary, dense log-probabilities of all answers would take 23 MB."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    return load(tiny.build(folder, text={"vocab_size": WIDE}))


def _oracle(live: Live, index: int, drop: list[int], tokens: int = 5) -> float:
    """KL of one sample by two plain forward passes of the whole model."""
    prompt = encode(live, SAMPLES[index])
    answer = greedy(live, [prompt], tokens)[0]
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
    values = judge.of([drop])[0].kl
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
        np.testing.assert_allclose(frugal.of([drop])[0].kl, judge.of([drop])[0].kl, rtol=1e-3, atol=1e-5)


def _held(thing: object, seen: set[int]) -> int:
    """Bytes of every tensor that can be reached from `thing`, each storage once; the model does not count."""
    if id(thing) in seen or isinstance(thing, (Live, torch.nn.Module)):
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        known = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        return 0 if known else storage.nbytes()
    if isinstance(thing, dict):
        return sum(_held(value, seen) for value in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(_held(value, seen) for value in thing)
    return _held(vars(thing), seen) if hasattr(thing, "__dict__") else 0


@pytest.mark.parametrize("cache_kib", [256, 512, 2048])
def test_all_that_is_kept_fits_into_the_cache(wide: Live, cache_kib: int) -> None:
    """Streams, arguments of blocks, dense answers: a large vocabulary does not count, and pictures go."""
    judge = Judge(wide, SAMPLES, max_new_tokens=5, batch_size=4, cache_bytes=cache_kib << 10)
    judge.kl([1, 4])
    held = _held(judge, set())
    assert held <= cache_kib << 10
    assert held > 100 << 10  # the streams that enter layer 0, at the least


def test_a_block_of_the_head_has_bounded_size(wide: Live) -> None:
    """Logits are made some rows at a time, and a row's KL is that of the whole vocabulary at once."""
    rows: list[int] = []
    handle = wide.head.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    try:
        values = Judge(wide, SAMPLES, max_new_tokens=12, batch_size=9).of([[1, 4]])[0].kl
    finally:
        handle.remove()
    assert max(rows) * WIDE * 4 <= 32 << 20
    for index in (0, len(SAMPLES) - 1):
        assert values[index] == pytest.approx(_oracle(wide, index, [1, 4], 12), rel=1e-3, abs=1e-5)


def test_a_set_is_judged_once(live: Live) -> None:
    """Order and repetition of layers are the same question."""
    fresh = Judge(live, SAMPLES[:2], max_new_tokens=2)
    runs: list[int] = []
    handle = live.blocks[-1].register_forward_hook(lambda *_: runs.append(1))
    try:
        assert fresh.kl([1, 3]) == fresh.kl((3, 1))
    finally:
        handle.remove()
    assert len(runs) == 1


def test_no_samples_no_verdict(live: Live) -> None:
    """An empty list is refused."""
    with pytest.raises(InputError, match="held-out samples"):
        Judge(live, [])
