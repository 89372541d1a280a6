"""Towers that see whole pictures of one size; features of chosen layers, projected (LLaVA-1.5, ViP-LLaVA)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from topovlm.families.torch_parts import TorchParts


def blank_pictures(parts: TorchParts, count: int = 2) -> torch.Tensor:
    """Zeros `[count, channels, height, width]` in the model's precision, at the tower's own size."""
    tower = parts.model.config.vision_config
    size = tower.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.zeros((count, tower.num_channels, height, width), dtype=parts.model.dtype)


class SelectedFeatures(nn.Module):
    """pixel_values `[images, 3, H, W]` -> image_features `[images, tokens, hidden]`, projected.

    Of the tower layers that the configuration selects, side by side, with or without the class token.
    """

    axes: ClassVar = {"pixel_values": {0: "num_images"}}
    outputs: ClassVar = ("image_features",)

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.parts = parts
        self.tower = parts.tower
        self.projector = parts.projector
        facts = {**parts.family.defaults, **parts.model.config.to_dict()}
        self.layers = facts["vision_feature_layer"]
        self.strategy = facts["vision_feature_select_strategy"]

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank pictures of the tower's own size."""
        return {"pixel_values": blank_pictures(self.parts)}

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        states = self.tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
        layers = [self.layers] if isinstance(self.layers, int) else list(self.layers)
        first = 1 if self.strategy == "default" else 0  # "default" leaves the class token out
        features: torch.Tensor = self.projector(
            torch.cat([states[layer][:, first:] for layer in layers], dim=-1)
        )
        return features
