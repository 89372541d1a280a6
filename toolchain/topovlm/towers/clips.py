"""Towers whose features of several frames become tokens together (VideoLLaMA2)."""

from __future__ import annotations

from typing import ClassVar

import torch

from topovlm.towers.selected import SelectedFeatures


class WholeClip(SelectedFeatures):
    """pixel_values `[frames, 3, H, W]`, the frames of one clip -> image_features `[1, tokens, hidden]`.

    The number of frames is the model's own, and fixed: so are all sizes in the graph.
    """

    axes: ClassVar[dict[str, dict[int, str]]] = {}

    def samples(self) -> dict[str, torch.Tensor]:
        """One blank clip."""
        (blank, *_) = super().samples()["pixel_values"]
        return {"pixel_values": blank.repeat(self.parts.model.config.num_frames, 1, 1, 1)}
