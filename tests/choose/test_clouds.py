"""Clouds: normalised ones are what the model's own next norm sees; kinds of tokens stand side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny, tiny_families
from topovlm.checkpoint.files import content_hash, open_checkpoint
from topovlm.checkpoint.live import Live, encode, load
from topovlm.choose.calibration import collect, collect_states
from topovlm.choose.clouds import ALL_READINGS, STREAM, Reading, clouds_of, readings_for
from topovlm.choose.reading import Norm, norm_of
from topovlm.choose.shards import prompt_lengths, states_in_shards, torch_model
from topovlm.errors import InputError
from topovlm.samples import Sample
from topovlm.workers.pool import HERE

# Gains that multiply as they are, gains that are added to one, and norms on both sides of a part.
FAMILIES = ("llava-clip-llama", "gemma3", "qwen2_5_vl", "glm4v", "smollm3")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Live]:
    name: str = request.param
    return name, load(tiny_families.build(tmp_path_factory.mktemp("clouds") / name, name, layers=4))


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


@contextlib.contextmanager
def _no_gain(norm: nn.Module) -> Iterator[None]:
    """Within the block the norm multiplies by one: Gemma's weights are added to it."""
    weight = next(norm.parameters())
    own = weight.data.clone()
    try:
        weight.data.fill_(0.0 if "Gemma" in type(norm).__name__ else 1.0)
        yield
    finally:
        weight.data.copy_(own)


@torch.inference_mode()
def _streams(live: Live, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """What leaves every block [layers, tokens, width], and which tokens are of a picture; one sample."""
    found: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(
            lambda _module, _args, output: found.append(output[0] if isinstance(output, tuple) else output)
        )
        for block in live.blocks
    ]
    prompt = encode(live, sample)
    types = {name: value[None] for name, value in prompt.types.items()}
    try:
        live.model(input_ids=prompt.input_ids[None], **types, **prompt.extra, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    token = -1 if live.image_token_id is None else live.image_token_id
    return torch.stack([stream[0] for stream in found]), prompt.input_ids == token


def test_normalised_clouds_are_what_the_next_norm_makes(family: tuple[str, Live]) -> None:
    """Token by token through the model's own final norm without its gain, then the mean: every reading."""
    name, live = family
    samples = tiny_families.samples(name)[:3]
    states = collect(live, samples, ALL_READINGS, batch_size=2)
    for index, sample in enumerate(samples):
        streams, pictures = _streams(live, sample)
        with _no_gain(live.norm), torch.inference_mode():
            normed = live.norm(streams)
        for reading, values in states.items():
            kept = {"text-mean": ~pictures, "image-mean": pictures}.get(reading.token)
            used = normed if reading.cloud == "normalised" else streams
            if kept is None:
                expected = used[:, -1]
            elif not kept.any():
                expected = torch.zeros_like(used[:, 0])
            else:
                expected = used[:, kept].mean(1)
            np.testing.assert_allclose(values[:, index], expected, rtol=1e-3, atol=2e-4)


def test_the_mean_of_normalised_vectors_is_no_normalised_mean(live: Live) -> None:
    """It is shorter: vectors of length one that point apart."""
    states = collect_states(live, tiny.samples(3), token="text-mean", cloud="normalised")
    assert (np.square(states).mean(-1) < 0.95).all()
    last = collect_states(live, tiny.samples(3), cloud="normalised")
    np.testing.assert_allclose(np.square(last).mean(-1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("norm", "centred"), [(nn.LayerNorm(64, eps=1e-5), True), (nn.RMSNorm(64, eps=1e-5), False)]
)
def test_the_kind_of_norm_is_found_by_asking_it(live: Live, norm: nn.Module, centred: bool) -> None:
    """And both kinds give torch's own numbers, their gain aside."""
    parts = live.parts
    own, parts.__dict__["norm"] = parts.norm, norm
    try:
        found = norm_of(live)
    finally:
        parts.__dict__["norm"] = own
    assert found == Norm(1e-5, centred)
    stream = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * 30 + 7
    torch.testing.assert_close(found(stream), norm(stream).detach())


def test_multi_puts_points_of_all_kinds_side_by_side(live: Live) -> None:
    """In this order; a sample without a picture has two of the three."""
    samples = [*tiny.samples(4), replace(tiny.samples(1)[0], images=(), id="text")]
    states = collect(live, samples, readings_for("normalised", "multi"))
    cloud = clouds_of(states, "normalised", "multi")
    assert cloud.shape == (6, 5 + 5 + 4, 64)
    np.testing.assert_array_equal(cloud[:, :5], states[Reading("last", "normalised")])
    np.testing.assert_array_equal(cloud[:, 5:10], states[Reading("text-mean", "normalised")])
    np.testing.assert_array_equal(cloud[:, 10:], states[Reading("image-mean", "normalised")][:, :4])
    assert STREAM in states  # what other scorers are given, whatever the clouds are


def test_readings_do_not_depend_on_each_other(live: Live) -> None:
    """Every bit: whatever else is read in the same pass."""
    samples = tiny.samples(5)
    together = collect(live, samples, ALL_READINGS, batch_size=2)
    for reading in ALL_READINGS:
        alone = collect(live, samples, (reading,), batch_size=2)
        np.testing.assert_array_equal(alone[reading], together[reading])


def test_shards_give_the_same_bits(live: Live) -> None:
    """All readings, of whole batches that somebody else computes."""
    samples = tiny.samples(37)
    checkpoint = open_checkpoint(live.folder)
    model = torch_model(checkpoint, content_hash(live.folder), "float32")
    lengths = prompt_lengths(live.processor, checkpoint, samples)
    found = states_in_shards(HERE, model, samples, lengths, ALL_READINGS)
    here = collect(live, samples, ALL_READINGS)
    assert tuple(found) == ALL_READINGS
    for reading in ALL_READINGS:
        np.testing.assert_array_equal(found[reading], here[reading])


def test_what_cannot_be_averaged_is_refused(live: Live, tmp_path: Path) -> None:
    """A sample without a picture, a model whose prompts have none, names that do not exist."""
    text = [replace(sample, images=()) for sample in tiny.samples(2)]
    with pytest.raises(InputError, match="no picture to average over"):
        collect_states(live, text, token="image-mean")
    with pytest.raises(InputError, match="has no such token"):
        clouds_of(collect(live, text), "residual", "image-mean")
    with pytest.raises(InputError, match="--cloud = 'raw'"):
        collect_states(live, text, cloud="raw")
