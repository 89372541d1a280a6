"""Two towers of one form, for pictures and for frames of videos, behind one projector (Video-LLaVA)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.selected import SelectedFeatures


class PicturesAndFrames(SelectedFeatures):
    """pixel_values `[images, 3, H, W]`, pixel_values_videos `[frames, 3, H, W]` -> image_features
    `[tokens, hidden]`, pictures first.

    A run shows one kind and none of the other, whose tower then computes nothing. Features of the chosen
    layers; a frame keeps its class token, whatever the configuration says of a picture's.
    """

    axes: ClassVar = {"pixel_values": {0: "num_images"}, "pixel_values_videos": {0: "num_frames"}}

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        self.film_tower: Any = parts.film_tower

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank pictures, three blank frames."""
        (blank, *_) = super().samples()["pixel_values"]
        return {"pixel_values": blank.repeat(2, 1, 1, 1), "pixel_values_videos": blank.repeat(3, 1, 1, 1)}

    def forward(  # type: ignore[override]  # a graph's inputs are its own
        self, pixel_values: torch.Tensor, pixel_values_videos: torch.Tensor
    ) -> torch.Tensor:
        pictures = self.chosen(self.tower, pixel_values, self.first)
        frames = self.chosen(self.film_tower, pixel_values_videos, 0)
        rows = torch.cat([pictures.flatten(0, 1), frames.flatten(0, 1)])
        features: torch.Tensor = self.projector(rows)
        return features
