"""Towers that see whole pictures of one size; features of chosen layers, projected (LLaVA-1.5, ViP-LLaVA)."""

from __future__ import annotations

from typing import Any

import torch

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.whole import WholePictures


class SelectedFeatures(WholePictures):
    """pixel_values `[images, 3, H, W]` -> image_features `[images, tokens, hidden]`, projected.

    Of the tower layers that the configuration selects, side by side, with or without the class token.
    """

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        facts = {**parts.family.defaults, **parts.model.config.to_dict()}
        self.layers = facts["vision_feature_layer"]
        # "default" leaves the class token out.
        self.first = 1 if facts["vision_feature_select_strategy"] == "default" else 0

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.projector(self.selected(pixel_values))
        return features

    def selected(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[images, tokens, width]`, not projected."""
        return self.chosen(self.tower, pixel_values, self.first)

    def chosen(self, tower: Any, pixel_values: torch.Tensor, first: int) -> torch.Tensor:
        """As `selected`, of any tower, from its token `first` on."""
        states = tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
        layers = [self.layers] if isinstance(self.layers, int) else list(self.layers)
        return torch.cat([states[layer][:, first:] for layer in layers], dim=-1)
