"""Towers that read a picture in words of their own: a distribution over a visual vocabulary (Ovis2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from topovlm.errors import InputError, explain
from topovlm.families.torch_parts import TorchParts
from topovlm.towers.selected import blank_pictures


class VisualWords(nn.Module):
    """pixel_values `[tiles, 3, H, W]` -> image_features `[tiles, tokens, hidden]`.

    The last words of the vocabulary stand for no picture: they mark where tiles and rows begin and end, see
    `marker_rows`. Raises `InputError` for a tower that draws its words by chance.
    """

    axes: ClassVar = {"pixel_values": {0: "num_tiles"}}
    outputs: ClassVar = ("image_features",)

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.parts = parts
        self.tower = parts.tower
        self.projector = parts.projector
        config = parts.model.config.vision_config
        self.words = config.vocab_size - config.num_visual_indicator_tokens
        if config.tokenize_function == "gumbel_argmax":
            name = "vision_config.tokenize_function"
            raise InputError(explain(name, config.tokenize_function, "draws at random; not exported"))

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank tiles of the tower's own size."""
        return {"pixel_values": blank_pictures(self.parts)}

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        chances = self.tower(pixel_values, return_dict=True).pooler_output
        return torch.matmul(chances, self.projector.get_parameter("weight")[: self.words])


def marker_rows(parts: TorchParts) -> dict[int, torch.Tensor]:
    """Token id -> its embedding `[hidden]`, of the tokens around tiles and rows.

    Where a prompt has a picture these tokens are read from the visual table, not from the decoder's.
    """
    ids = parts.model.config.visual_indicator_token_ids
    table = parts.projector.get_parameter("weight").detach()
    return dict(zip(ids, table[-len(ids) :], strict=True))
