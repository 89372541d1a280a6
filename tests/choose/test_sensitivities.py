"""Information about each block's gate, against the KL divergence that shutting it a little really makes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.files import content_hash, open_checkpoint
from topovlm.checkpoint.live import Live, load
from topovlm.choose.rollouts import roll_out
from topovlm.choose.sensitivities import collect_sensitivity, sensitivity_of_batches
from topovlm.choose.shards import prompt_lengths, sensitivity_in_shards, torch_model
from topovlm.workers.pool import HERE

SHUT = 0.02


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


@contextlib.contextmanager
def _ajar(live: Live, layer: int) -> Iterator[None]:
    """Within the block a layer adds a little less than it does."""

    def less(_module: Any, args: tuple[torch.Tensor, ...], output: Any) -> Any:
        after = output[0] if isinstance(output, tuple) else output
        gated = after - SHUT * (after - args[0])
        return (gated, *output[1:]) if isinstance(output, tuple) else gated

    handle = live.blocks[layer].register_forward_hook(less)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def _log_p(live: Live, batch: dict[str, torch.Tensor], rows: Any, positions: Any) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "attention_mask"}
    logits: torch.Tensor = live.model(**inputs, use_cache=False).logits
    return logits[rows, positions].double().log_softmax(-1)


def test_half_of_it_is_the_curvature_of_the_kl(live: Live) -> None:
    """For many draws of labels, the KL of a gate that is shut by 2 % is half the information times 0.02^2."""
    samples = tiny.samples(2)
    found = sensitivity_of_batches(live, [samples], seed=0, draws=600)[..., 0].mean(1)
    (rolled,) = roll_out(live, samples, max_new_tokens=8, batch_size=2)
    dense = _log_p(live, rolled.batch, rolled.rows, rolled.positions)
    per_sample = torch.bincount(rolled.rows).double()
    for layer in range(live.layers):
        with _ajar(live, layer):
            slim = _log_p(live, rolled.batch, rolled.rows, rolled.positions)
        kl = (dense.exp() * (dense - slim)).sum(-1)
        expected = (torch.bincount(rolled.rows, weights=kl) / per_sample).mean() / (SHUT**2 / 2)
        assert found[layer] == pytest.approx(float(expected), rel=0.2)


def test_a_model_in_its_files_and_shards_give_the_same(live: Live) -> None:
    """Every bit; another seed draws other labels."""
    samples = tiny.samples(10)
    here = collect_sensitivity(live, samples)
    assert here.shape == (6,)
    assert (here > 0).all()
    mapped = load(live.folder, mapped=True)
    np.testing.assert_array_equal(collect_sensitivity(mapped, samples), here)
    checkpoint = open_checkpoint(live.folder)
    model = torch_model(checkpoint, content_hash(live.folder), "float32")
    lengths = prompt_lengths(live.processor, checkpoint, samples)
    np.testing.assert_array_equal(sensitivity_in_shards(HERE, model, samples, lengths, 0), here)
    assert not np.array_equal(collect_sensitivity(live, samples, seed=1), here)
