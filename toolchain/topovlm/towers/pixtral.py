"""Towers that see one picture at its own size, rows and columns by rotation (Pixtral, Mistral3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from topovlm.families.torch_parts import TorchParts


def merged(features: torch.Tensor, rows: int, columns: int, merge: int) -> torch.Tensor:
    """`[rows * columns, width]` -> `[rows / merge * columns / merge, width * merge * merge]`.

    Of each block the first channel of all its patches comes first, then the second, and so on.
    """
    width = features.shape[1]
    blocks = features.reshape(rows // merge, merge, columns // merge, merge, width)
    return blocks.permute(0, 2, 4, 1, 3).reshape(-1, width * merge * merge)


class NativePicture(nn.Module):
    """pixel_values `[1, 3, H, W]`, position_ids `[patches]` -> image_features `[tokens, hidden]`.

    Sides are whole patches (whole blocks, where a family merges them). A patch's position is
    `row * (image_size // patch_size) + column`.
    """

    axes: ClassVar = {"pixel_values": {2: "height", 3: "width"}, "position_ids": {0: "num_patches"}}
    outputs: ClassVar = ("image_features",)

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.dtype = parts.dtype
        self.tower: Any = parts.tower
        self.projector: Any = parts.projector
        config = parts.model.config
        chosen = config.vision_feature_layer
        self.chosen = [chosen] if isinstance(chosen, int) else list(chosen)
        self.patch = config.vision_config.patch_size
        self.columns = config.vision_config.image_size // self.patch
        self.merge = getattr(config, "spatial_merge_size", 1)

    def samples(self) -> dict[str, torch.Tensor]:
        """A blank picture of 2 x 3 blocks."""
        rows, columns = 2 * self.merge, 3 * self.merge
        ids = torch.arange(rows)[:, None] * self.columns + torch.arange(columns)
        pixels = torch.zeros((1, 3, rows * self.patch, columns * self.patch), dtype=self.dtype)
        return {"pixel_values": pixels, "position_ids": ids.flatten()}

    def forward(self, pixel_values: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        tower = self.tower
        maps = tower.patch_conv(pixel_values)
        rows, columns = maps.shape[2], maps.shape[3]
        check: Callable[[bool], None] = torch._check  # untyped in torch
        check(position_ids.shape[0] == rows * columns)
        hidden = tower.ln_pre(maps.flatten(2).transpose(1, 2))
        places = torch.stack([position_ids // self.columns, position_ids % self.columns], dim=-1)
        angles = tower.patch_positional_embedding(hidden, places)
        states = [hidden]
        for layer in tower.transformer.layers:
            states.append(layer(states[-1], attention_mask=None, position_embeddings=angles))
        features = torch.cat([states[layer] for layer in self.chosen], dim=-1)[0]
        if hasattr(self.projector, "patch_merger"):
            features = self.projector.norm(features)
            features = self.projector.patch_merger.merging_layer(merged(features, rows, columns, self.merge))
        projector = self.projector
        projected: torch.Tensor = projector.linear_2(projector.act(projector.linear_1(features)))
        return projected
