"""Towers that see a picture as tiles, whose features the host picks and weighs (LLaVA-NeXT and its kin)."""

from __future__ import annotations

from typing import ClassVar

import torch

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.selected import SelectedFeatures


class PackedTiles(SelectedFeatures):
    """pixel_values `[tiles, 3, H, W]` and what to make of them -> image_features `[tokens, hidden]`.

    The rows to choose from: all tiles' projected features in order, then the learned newline, the last one.
    Token t is the sum over taps k of `feature_weight[k, t]` times row `feature_index[k, t]`. So unpadding,
    newlines and the bilinear shrink of large pictures are the host's arithmetic on indices, and no picture's
    size is in the graph.
    """

    axes: ClassVar = {
        "pixel_values": {0: "num_tiles"},
        "feature_index": {0: "num_taps", 1: "num_tokens"},
        "feature_weight": {0: "num_taps", 1: "num_tokens"},
    }

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        self.newline = parts.model.base_model.image_newline

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank tiles, five tokens of three taps."""
        return {
            **super().samples(),
            "feature_index": torch.arange(15).reshape(3, 5) % 4,
            "feature_weight": torch.full((3, 5), 1 / 3, dtype=self.newline.dtype),
        }

    def forward(  # type: ignore[override]  # a graph's inputs are its own
        self, pixel_values: torch.Tensor, feature_index: torch.Tensor, feature_weight: torch.Tensor
    ) -> torch.Tensor:
        rows = torch.cat([super().forward(pixel_values).flatten(0, 1), self.newline[None]])
        return (rows[feature_index] * feature_weight[..., None]).sum(0)


class PooledTiles(PackedTiles):
    """As `PackedTiles`, but rows are mixed before they are projected (LLaVA-NeXT-Video: means of four of a
    frame's features). A token whose first tap is the newline is the newline."""

    def forward(  # type: ignore[override]
        self, pixel_values: torch.Tensor, feature_index: torch.Tensor, feature_weight: torch.Tensor
    ) -> torch.Tensor:
        rows = self.selected(pixel_values).flatten(0, 1)
        ended = feature_index[0] == rows.shape[0]
        rows = torch.cat([rows, torch.zeros_like(rows[:1])])
        mixed = (rows[feature_index] * feature_weight[..., None]).sum(0)
        return torch.where(ended[:, None], self.newline, self.projector(mixed))
