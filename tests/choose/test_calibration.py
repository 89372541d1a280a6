"""Calibration states: the residual stream after each block, exact whatever the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.live import Live, load
from topovlm.choose.calibration import collect_states
from topovlm.errors import InputError


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def live(request: pytest.FixtureRequest) -> Live:
    return load(request.getfixturevalue(f"tiny_{request.param.replace('-', '_')}"))


MIXED = [
    *tiny.samples(5),
    *tiny.samples(2, seed=4, images=2),
    replace(tiny.samples(1)[0], images=(), id="text"),
]


def test_states_are_those_transformers_reports(live: Live) -> None:
    """Against `output_hidden_states` of single prompts; the last layer against the final norm's input."""
    states = collect_states(live, MIXED, batch_size=3)
    assert states.shape == (6, len(MIXED), 64)
    assert states.dtype == np.float32
    for index, sample in enumerate(MIXED):
        content = [{"type": "image", "image": picture} for picture in sample.images]
        message = {"role": "user", "content": [*content, {"type": "text", "text": sample.prompt}]}
        inputs = live.processor.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = live.model(**inputs, output_hidden_states=True).hidden_states
            last = live.norm(torch.tensor(states[-1, index]))
        for layer in range(5):  # transformers gives embeddings, blocks 0..4, and the normed last block
            np.testing.assert_allclose(states[layer, index], hidden[layer + 1][0, -1], atol=1e-4)
        np.testing.assert_allclose(last, hidden[-1][0, -1], atol=1e-4)


@pytest.mark.parametrize("token", ["last", "text-mean", "image-mean"])
def test_a_batch_gives_what_its_samples_give_alone(live: Live, token: str) -> None:
    """Prompts of different lengths and picture counts, in any order, batched or not."""
    samples = MIXED[:-1]
    alone = np.concatenate([collect_states(live, [sample], token=token) for sample in samples], axis=1)
    together = collect_states(live, samples, token=token, batch_size=16)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    backwards = collect_states(live, samples[::-1], token=token, batch_size=2)
    np.testing.assert_allclose(backwards[:, ::-1], alone, atol=1e-4)


def test_token_choices_differ_and_ret_is_last(live: Live) -> None:
    """The three choices look at different tokens; the mean over all tokens lies between its parts."""
    samples = tiny.samples(2)
    last, text, image = (collect_states(live, samples, token=t) for t in ("last", "text-mean", "image-mean"))
    assert min(abs(last - text).max(), abs(text - image).max(), abs(last - image).max()) > 0.1
    np.testing.assert_array_equal(collect_states(live, samples, token="ret"), last)


def test_progress_counts_samples(live: Live) -> None:
    """Ends at the total."""
    seen: list[tuple[int, int]] = []
    collect_states(
        live, tiny.samples(5), batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (30, 30)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) == 18


def test_bad_requests_are_explained(live: Live, tmp_path: Path) -> None:
    """Unknown token choice, no samples, no picture to average, a broken picture, damaged weights."""
    with pytest.raises(InputError, match="--token = 'first'"):
        collect_states(live, MIXED, token="first")
    with pytest.raises(InputError, match="at least one"):
        collect_states(live, [])
    with pytest.raises(InputError, match="text: --token"):
        collect_states(live, MIXED, token="image-mean")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    broken = replace(MIXED[0], images=(tmp_path / "broken.png",), source="data.jsonl:3")
    with pytest.raises(InputError, match=r"data\.jsonl:3"):
        collect_states(live, [broken])
    weight = live.down_projection(4).weight
    original = weight.data.clone()
    try:
        weight.data.fill_(float("inf"))
        with pytest.raises(InputError, match="after layer 4 is not finite"):
            collect_states(live, tiny.samples(1))
    finally:
        weight.data.copy_(original)
