"""Towers that see padded tiles, with a mask of the pixels that are picture (Idefics3, SmolVLM)."""

from __future__ import annotations

from typing import ClassVar

import torch

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.whole import WholeTiles


class MaskedTiles(WholeTiles):
    """pixel_values `[tiles, 3, H, W]`, pixel_attention_mask `[tiles, H, W]` -> `[tiles, tokens, hidden]`.

    Every tile is a real one: those that transformers adds to fill up a batch, and takes out again by
    searching for zeros, are not fed. A tile has at least one pixel of picture, in its first row and column.
    """

    axes: ClassVar = {"pixel_values": {0: "num_tiles"}, "pixel_attention_mask": {0: "num_tiles"}}
    bounds: torch.Tensor

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        config = parts.model.config.vision_config
        self.patch = config.patch_size
        self.side = config.image_size // config.patch_size
        # Where one learned position ends and the next begins, on a side of length 1. As transformers' own
        # sum of steps: summed by a runtime, the last digit decides otherwise where a patch begins there.
        self.register_buffer("bounds", torch.arange(1 / self.side, 1.0, 1 / self.side), persistent=False)

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank tiles of the tower's own size, all picture."""
        plain = super().samples()
        tiles, _, height, width = plain["pixel_values"].shape
        return {**plain, "pixel_attention_mask": torch.ones((tiles, height, width), dtype=torch.bool)}

    def forward(self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor) -> torch.Tensor:
        seen = self._patches(pixel_attention_mask)
        embeddings = self.tower.embeddings
        patches = embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        hidden = patches + embeddings.position_embedding(self._positions(seen))
        lowest = torch.finfo(hidden.dtype).min / 2  # added to a score it stays finite in fp16 too
        mask = torch.where(seen.flatten(1), 0.0, lowest).to(hidden.dtype)[:, None, None]
        hidden = self.tower.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
        projected: torch.Tensor = self.projector(self.tower.post_layernorm(hidden))
        return projected

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Which patches hold at least one pixel of picture, `[tiles, rows, columns]`."""
        tiles, height, width = pixels.shape
        rows, columns = height // self.patch, width // self.patch
        blocks = pixels.reshape(tiles, rows, self.patch, columns, self.patch)
        return blocks.to(torch.int64).sum(dim=(2, 4)) > 0

    def _positions(self, seen: torch.Tensor) -> torch.Tensor:
        """Of each patch, `[tiles, rows * columns]`, in the learned table: a picture spans all of it."""
        rows = self._buckets(seen[:, :, 0])
        columns = self._buckets(seen[:, 0, :])
        places = rows[:, :, None] * self.side + columns[:, None, :]
        return torch.where(seen, places, 0).flatten(1)

    def _buckets(self, seen: torch.Tensor) -> torch.Tensor:
        """`[tiles, patches]` of one side -> the learned row or column of each."""
        step = 1.0 / seen.to(torch.int64).sum(dim=1)
        places = torch.arange(seen.shape[1], dtype=torch.float32, device=seen.device) * step[:, None]
        places = places.clamp(max=1.0 - 1e-6)
        passed: torch.Tensor = places[..., None] >= self.bounds
        return passed.to(torch.int64).sum(dim=-1)
