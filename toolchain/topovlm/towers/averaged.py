"""A tower for pictures of any size whose features are averaged outside of it (VideoLLaMA3)."""

from __future__ import annotations

from typing import Any

import torch

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.blocks import encode
from topovlm.towers.native import PATCHES, Patches, embedded, resampled

_TOKENS = 5  # in the trace: of no other axis


class AveragedPatches(Patches):
    """pixel_values `[patches, values]`, position_ids `[patches, 2]`, feature_index and feature_weight
    `[tokens, 4]` -> image_features `[tokens, hidden]`.

    A token is projected from a weighted sum of patches' features. The host says which (one each in a picture,
    means of four in a frame of a video) and leaves out tokens of a frame that show nothing new.
    """

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        self.projector: Any = parts.projector

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Patches and tokens are counted apart."""
        rows = {"feature_index": {0: "tokens"}, "feature_weight": {0: "tokens"}}
        return {"pixel_values": {0: PATCHES}, "position_ids": {0: PATCHES}, **rows}

    def samples(self) -> dict[str, torch.Tensor]:
        """A blank picture, some of whose blocks are kept."""
        index = torch.arange(_TOKENS * 4).reshape(_TOKENS, 4) % 4
        return {**super().samples(), "feature_index": index, "feature_weight": torch.full((_TOKENS, 4), 0.25)}

    def _kernel(self) -> tuple[torch.Tensor, int]:
        return self.tower.embeddings.patch_embedding.weight, 2

    def forward(  # type: ignore[override]  # a graph's inputs are its own
        self,
        pixel_values: torch.Tensor,
        position_ids: torch.Tensor,
        feature_index: torch.Tensor,
        feature_weight: torch.Tensor,
    ) -> torch.Tensor:
        tower = self.tower
        hidden = embedded(pixel_values, tower.embeddings.patch_embedding)
        cos, sin = tower.rotary_pos_emb(hidden, position_ids)
        for block in tower.encoder.layers:
            hidden = encode(block, hidden, cos, sin)
        hidden = tower.post_layernorm(hidden)
        features: torch.Tensor = self.projector(
            resampled(hidden, feature_index, feature_weight).to(hidden.dtype)
        )
        return features
