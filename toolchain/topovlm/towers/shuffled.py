"""Towers that see tiles and lay neighbouring patches side by side in one token (InternVL)."""

from __future__ import annotations

import math

import torch

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.whole import WholeTiles


def side_by_side(features: torch.Tensor, merge: int) -> torch.Tensor:
    """`[tiles, side * side, width]` -> `[tiles, (side / merge) ** 2, merge * merge * width]`."""
    tiles, patches, width = features.shape
    side = math.isqrt(patches)
    blocks = features.reshape(tiles, side // merge, merge, side // merge, merge, width)
    return blocks.transpose(2, 3).reshape(tiles, (side // merge) ** 2, merge * merge * width)


class ShuffledTiles(WholeTiles):
    """pixel_values `[tiles, 3, H, W]` -> image_features `[tiles, tokens, hidden]`."""

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        config = parts.model.config
        self.layer = config.vision_feature_layer
        self.first = 1 if config.vision_feature_select_strategy == "default" else 0  # the class token
        self.merge = round(1 / config.downsample_ratio)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.layer == -1:  # what leaves the tower, its last norm included; other layers have none
            features = self.tower(pixel_values, return_dict=True).last_hidden_state
        else:
            seen = self.tower(pixel_values, output_hidden_states=True, return_dict=True)
            features = seen.hidden_states[self.layer]
        projected: torch.Tensor = self.projector(side_by_side(features[:, self.first :], self.merge))
        return projected
