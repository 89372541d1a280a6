"""VideoLLaMA2's connector against numpy, its published sizes, and the names that a checkpoint gives it.

It was also compared with timm 1.0.31's `RegStage`, of which the model's own code builds it: the state dict
loads strictly and the largest difference is 0.0, with either padding.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from topovlm.families import projectors
from topovlm.families.canvases import sampled
from topovlm.native.stc import SpatialTemporalConv

Weights = dict[str, np.ndarray]


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """Over the last axis, channels."""
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _block(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """One frame `[rows, columns, channels]`."""

    def pointwise(x: np.ndarray, part: str) -> np.ndarray:
        return _norm(x @ weights[f"{name}.{part}.conv.weight"][:, :, 0, 0].T, weights, f"{name}.{part}.bn")

    rows, columns, _ = x.shape
    y = _silu(pointwise(x, "conv1"))
    wide, kernel = np.pad(y, ((1, 1), (1, 1), (0, 0))), weights[f"{name}.conv2.conv.weight"][:, 0]
    y = sum(kernel[:, i, j] * wide[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    y = _silu(_norm(y, weights, f"{name}.conv2.bn"))
    gate = y.mean((0, 1)) @ weights[f"{name}.se.fc1.weight"][:, :, 0, 0].T + weights[f"{name}.se.fc1.bias"]
    gate = _silu(gate) @ weights[f"{name}.se.fc2.weight"][:, :, 0, 0].T + weights[f"{name}.se.fc2.bias"]
    y = pointwise(y / (1 + np.exp(-gate)), "conv3")
    if f"{name}.downsample.conv.weight" in weights:
        x = pointwise(x, "downsample")
    return _silu(x + y)


def _by_hand(clip: np.ndarray, weights: Weights, padding: int) -> np.ndarray:
    """`[frames, rows, columns, features]` -> `[tokens, hidden]`."""
    from scipy.special import erf

    for number in range(1, 5):
        clip = np.stack([_block(frame, weights, f"s1.b{number}") for frame in clip])
    clip = np.pad(clip, ((padding, padding),) * 3 + ((0, 0),))
    steps, tall, wide = (side // 2 for side in clip.shape[:3])
    kernel, bias = weights["sampler.0.weight"], weights["sampler.0.bias"]
    left = np.zeros((steps, tall, wide, len(bias)))
    for t, i, j in np.ndindex(steps, tall, wide):
        cube = clip[2 * t : 2 * t + 2, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        left[t, i, j] = np.einsum("tijc,octij->o", cube, kernel) + bias
    left = _silu(left)
    for number in range(1, 5):
        left = np.stack([_block(frame, weights, f"s2.b{number}") for frame in left])
    x = left.reshape(-1, left.shape[-1]) @ weights["readout.0.weight"].T + weights["readout.0.bias"]
    x = x * (1 + erf(x / np.sqrt(2))) / 2
    return x @ weights["readout.2.weight"].T + weights["readout.2.bias"]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("frames", [4, 5])
def test_tokens_are_those_of_the_same_arithmetic_in_numpy(padding: int, frames: int) -> None:
    """Two clips at once, each as by itself; an odd number of frames, too."""
    connector = SpatialTemporalConv(8, 12, frames=frames, padding=padding).double().eval()
    generator = torch.Generator().manual_seed(padding)
    for value in connector.parameters():
        value.data = 0.6 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    weights = {name: value.numpy() for name, value in connector.state_dict().items()}
    features = torch.randn((2 * frames, 36, 8), generator=generator, dtype=torch.float64)
    with torch.inference_mode():
        tokens = connector(features).numpy()
    clips = features.numpy().reshape(2, frames, 6, 6, 8)
    expected = np.stack([_by_hand(clip, weights, padding) for clip in clips])
    assert tokens.shape == (2, np.prod(sampled(frames, 6, 6, padding)), 12) == expected.shape
    assert np.abs(tokens - expected).max() < 1e-9 * np.abs(expected).max()


def test_sizes_are_the_published_ones() -> None:
    """VideoLLaMA2-7B: 153.4 + 134.2 + 168.0 + 33.6 million weights, and what a plan counts of them."""
    with torch.device("meta"):
        connector = SpatialTemporalConv(1024, 4096, frames=8, padding=1)
    counts = [sum(value.numel() for value in part.parameters()) for part in connector.children()]
    assert [round(count / 1e6, 1) for count in counts] == [153.4, 134.2, 168.0, 33.6]
    planned = projectors.stage_by_patch({}, 1024, 4096) + projectors.sampled_stage({}, 1024, 4096)
    assert planned == pytest.approx(sum(counts), rel=1e-3)


def test_names_are_those_of_a_checkpoint() -> None:
    """As the index of VideoLLaMA2-7B lists them behind `model.mm_projector.`."""
    with torch.device("meta"):
        names = set(SpatialTemporalConv(1024, 4096, frames=8, padding=1).state_dict())
    convs = [
        f"{conv}.{leaf}"
        for conv in ("conv1", "conv2", "conv3")
        for leaf in ("conv.weight", "bn.weight", "bn.bias")
    ]
    gate = [f"se.{layer}.{leaf}" for layer in ("fc1", "fc2") for leaf in ("weight", "bias")]
    blocks = {
        f"{stage}.b{n}.{leaf}" for stage in ("s1", "s2") for n in range(1, 5) for leaf in (*convs, *gate)
    }
    first = {f"s1.b1.downsample.{leaf}" for leaf in ("conv.weight", "bn.weight", "bn.bias")}
    ends = {
        f"{part}.{leaf}" for part in ("sampler.0", "readout.0", "readout.2") for leaf in ("weight", "bias")
    }
    assert names == blocks | first | ends
