"""The last cloud without each layer, against stock passes with that block left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny, tiny_families
from topovlm.checkpoint.files import content_hash, open_checkpoint
from topovlm.checkpoint.live import Live, bypassed, encode, load
from topovlm.choose.bypasses import bypassed_of_batches, collect_bypassed
from topovlm.choose.calibration import collect_states
from topovlm.choose.shards import bypassed_in_shards, prompt_lengths, torch_model
from topovlm.samples import Sample
from topovlm.workers.pool import HERE


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


@pytest.mark.parametrize("cloud", ["residual", "normalised"])
def test_each_layer_by_itself_is_left_out(live: Live, cloud: str) -> None:
    """Sample by sample through transformers with that block bypassed; the last row is the dense model."""
    samples = tiny.samples(5)
    found = collect_bypassed(live, samples, cloud)
    assert found.shape == (7, 5, 64)
    for layer in range(6):
        with bypassed(live, [layer]):
            alone = [_last_stream(live, number, samples) for number in range(5)]
        expected = torch.stack(alone).double()
        if cloud == "normalised":
            expected /= (expected.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        np.testing.assert_allclose(found[layer], expected, rtol=1e-3, atol=2e-4)
    np.testing.assert_array_equal(found[-1], collect_states(live, samples, cloud=cloud)[-1])


@torch.inference_mode()
def _last_stream(live: Live, number: int, samples: list[Sample]) -> torch.Tensor:
    found: list[torch.Tensor] = []
    handle = live.norm.register_forward_pre_hook(lambda _norm, args: found.append(args[0][0, -1]))
    prompt = encode(live, samples[number])
    try:
        live.model(input_ids=prompt.input_ids[None], **prompt.extra, use_cache=False)
    finally:
        handle.remove()
    return found[0]


def test_memory_and_shards_do_not_change_a_bit(live: Live) -> None:
    """Layers one after the other, and batches that somebody else computes."""
    samples = tiny.samples(21)
    here = collect_bypassed(live, samples)
    some = [samples[:4]]
    few = bypassed_of_batches(live, some, "residual", stream_bytes=1)
    np.testing.assert_array_equal(few, bypassed_of_batches(live, some, "residual"))
    checkpoint = open_checkpoint(live.folder)
    model = torch_model(checkpoint, content_hash(live.folder), "float32")
    lengths = prompt_lengths(live.processor, checkpoint, samples)
    np.testing.assert_array_equal(here, bypassed_in_shards(HERE, model, samples, lengths, "residual"))


def test_layers_that_are_tied_to_their_place_have_no_cloud(tmp_path: Path) -> None:
    """DeepStack's first layers cannot go: zeros, which no neighbourhood agrees with."""
    live = load(tiny_families.build(tmp_path / "model", "qwen3_vl", layers=5))
    found = collect_bypassed(live, tiny_families.samples("qwen3_vl")[:3])
    gone = [not rows.any() for rows in found]
    assert gone[0]
    assert not any(gone[3:])
