"""What towers share that see whole pictures, or tiles, of one size."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from topovlm.families.torch_parts import TorchParts


class WholePictures(nn.Module):
    """pixel_values `[images, 3, H, W]` -> image_features `[images, tokens, hidden]`."""

    axes: ClassVar[dict[str, dict[int, str]]] = {"pixel_values": {0: "num_images"}}
    outputs: ClassVar = ("image_features",)

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.parts = parts
        self.tower: Any = parts.tower
        self.projector: Any = parts.projector

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank pictures of the tower's own size, in the model's precision."""
        tower = self.parts.model.config.vision_config
        size = tower.image_size
        height, width = (size, size) if isinstance(size, int) else size
        blank = torch.zeros((2, tower.num_channels, height, width), dtype=self.parts.dtype)
        return {"pixel_values": blank}


class WholeTiles(WholePictures):
    """The same of the tiles that a picture is cut into."""

    axes: ClassVar = {"pixel_values": {0: "num_tiles"}}
