"""VideoLLaMA2's connector: frames of a clip -> visual tokens, with the names that its checkpoints have.

Four blocks of RegNet's kind (Radosavovic et al., arXiv 2003.13678) on each frame, a convolution over two
frames and two by two patches, four blocks on what is left, and an MLP (arXiv 2406.07476, section 3). What a
checkpoint calls `bn` is a layer norm over channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_DEPTH = 4  # blocks of a stage
_SQUEEZED = 4  # channels that come into a block for each one that its gate computes with
_STEP = 2  # frames, rows and columns that become one


class _Conv(nn.Module):
    """A convolution without bias, its channels normalised, and SiLU unless it is the block's last."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 1, groups: int = 1, acts: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.LayerNorm(outputs, eps=1e-5)
        self.acts = acts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return functional.silu(x) if self.acts else x


class _Gate(nn.Module):
    """Squeeze and excitation: each channel is weighed by what the whole frame holds."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = self.fc2(functional.silu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * weights.sigmoid()


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _Conv(inputs, outputs)
        self.conv2 = _Conv(outputs, outputs, kernel=3, groups=outputs)
        self.se = _Gate(outputs, round(inputs / _SQUEEZED))
        self.conv3 = _Conv(outputs, outputs, acts=False)
        self.downsample = nn.Identity() if inputs == outputs else _Conv(inputs, outputs, acts=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv3(self.se(self.conv2(self.conv1(x))))
        return functional.silu(inner + self.downsample(x))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    stage = nn.Sequential()
    for number in range(_DEPTH):
        stage.add_module(f"b{number + 1}", _Block(outputs if number else inputs, outputs))
    return stage


class SpatialTemporalConv(nn.Module):
    """Features of clips' frames `[clips * frames, patches, features]` -> tokens `[clips, tokens, hidden]`.

    `frames`: of one clip. `padding`: blank ones that the sampler sees around frames, rows and columns; 1 in
    the first version, 0 in 2.1. Patches form a square. Tokens go by frame, then row, then column.
    """

    def __init__(self, features: int, hidden: int, *, frames: int, padding: int) -> None:
        super().__init__()
        self.frames = frames
        self.s1 = _stage(features, hidden)
        self.sampler = nn.Sequential(
            nn.Conv3d(hidden, hidden, _STEP, stride=_STEP, padding=padding), nn.SiLU()
        )
        self.s2 = _stage(hidden, hidden)
        self.readout = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        side = round(features.shape[1] ** 0.5)
        x = self.s1(features.transpose(1, 2).unflatten(2, (side, side)))
        x = self.sampler(x.unflatten(0, (-1, self.frames)).transpose(1, 2))  # clips, channels, frames, ...
        steps = x.shape[2]
        x = self.s2(x.transpose(1, 2).flatten(0, 1))
        tokens: torch.Tensor = self.readout(
            x.flatten(2).transpose(1, 2).unflatten(0, (-1, steps)).flatten(1, 2)
        )
        return tokens
