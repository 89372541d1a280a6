"""Towers that read a picture in words of their own: a distribution over a visual vocabulary (Ovis2)."""

from __future__ import annotations

import torch
from torch import nn

from topovlm.errors import InputError, explain
from topovlm.families.torch_parts import TorchParts
from topovlm.towers.whole import WholeTiles


class VisualWords(WholeTiles):
    """pixel_values `[tiles, 3, H, W]` -> image_features `[tiles, tokens, hidden]`.

    The last words of the vocabulary stand for no picture: they mark where tiles and rows begin and end, see
    `MarkedEmbedding`. Raises `InputError` for a tower that draws its words by chance.
    """

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        config = parts.model.config.vision_config
        self.words = config.vocab_size - config.num_visual_indicator_tokens
        if config.tokenize_function == "gumbel_argmax":
            name = "vision_config.tokenize_function"
            raise InputError(explain(name, config.tokenize_function, "draws at random; not exported"))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        chances = self.tower(pixel_values, return_dict=True).pooler_output
        return torch.matmul(chances, self.projector.get_parameter("weight")[: self.words])


class MarkedEmbedding(nn.Module):
    """input_ids `[batch, seq]` -> inputs_embeds `[batch, seq, hidden]`.

    The tokens around tiles and rows are read from the last rows of the visual table, not from the decoder's.
    """

    ids: torch.Tensor

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.table = parts.embedding
        ids = torch.tensor(parts.model.config.visual_indicator_token_ids)
        self.register_buffer("ids", ids, persistent=False)
        rows = parts.projector.get_parameter("weight").detach()[-len(ids) :]
        self.marks = nn.Parameter(rows.clone(), requires_grad=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        found = input_ids[..., None] == self.ids
        marked = torch.nn.functional.embedding(found.to(torch.int64).argmax(-1), self.marks)
        embeds: torch.Tensor = torch.where(found.any(-1, keepdim=True), marked, self.table(input_ids))
        return embeds
