"""Towers that see a picture at its own size, as a row of patches: one picture per run of the graph.

Patches come in the processor's order. A block of `merge` x `merge` patches becomes one visual token; all
towers but PaddleOCR-VL's want the patches of a block together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.blocks import encode, windows_of

PATCHES, WINDOWS = "patches", "windows"
_BLOCKS = 3  # blocks of patches in the trace: an odd number, of no other axis


def sample_patches(patch_weight: torch.Tensor, merge: int) -> dict[str, torch.Tensor]:
    """pixel_values and position_ids of a picture one block high and `_BLOCKS` wide."""
    side = torch.arange(merge)
    rows = side.repeat_interleave(merge).repeat(_BLOCKS)
    columns = (torch.arange(_BLOCKS)[:, None] * merge + side.repeat(merge)).flatten()
    return {
        "pixel_values": torch.zeros(len(rows), patch_weight[0].numel()),
        "position_ids": torch.stack([rows, columns], dim=-1),
    }


def sample_taps(patches: int, taps: int) -> dict[str, torch.Tensor]:
    """interp_indices and interp_weights that read the table's first entry."""
    shape = (patches, taps)
    return {"interp_indices": torch.zeros(shape, dtype=torch.long), "interp_weights": torch.ones(shape)}


def embedded(pixels: torch.Tensor, patch_embedding: Any) -> torch.Tensor:
    """pixel_values `[patches, channels * time * side * side]` -> `[patches, width]`.

    A convolution whose stride is its kernel, written as the product that it is.
    """
    weight = patch_embedding.weight
    return functional.linear(pixels.to(weight.dtype), weight.flatten(1), patch_embedding.bias)


def resampled(table: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rows of `table` mixed by tap: `[patches, taps]` twice -> `[patches, width]` in fp32.

    Tap by tap: all taps at once would hold `taps` times the picture's features.
    """
    mixed = table[indices[:, 0]].float() * weights[:, :1]
    for tap in range(1, indices.shape[1]):
        mixed = mixed + table[indices[:, tap]].float() * weights[:, tap : tap + 1]
    return mixed


class _Tower(nn.Module):
    """What the towers share: their parts, and the inputs that all of them have.

    `taps`: how many entries of a learned table of positions are mixed for a patch; 0 where there is no table.
    """

    outputs: tuple[str, ...] = ("image_features",)
    taps = 0

    def __init__(self, parts: TorchParts) -> None:
        super().__init__()
        self.tower: Any = parts.tower

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Every input is a row of patches."""
        return {name: {0: PATCHES} for name in self.samples()}

    def samples(self) -> dict[str, torch.Tensor]:
        """A blank picture, a few blocks wide."""
        plain = sample_patches(*self._kernel())
        return {**plain, **sample_taps(len(plain["position_ids"]), self.taps)} if self.taps else plain

    def _kernel(self) -> tuple[torch.Tensor, int]:
        """Weight of the patch embedding, patches along the side of a block."""
        return self.tower.patch_embed.proj.weight, self.tower.spatial_merge_size


class Patches(_Tower):
    """pixel_values `[patches, values]`, position_ids `[patches, 2]` -> image_features `[tokens, hidden]`.

    Every patch sees every other (Qwen2-VL).
    """

    def forward(self, pixel_values: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        hidden = embedded(pixel_values, self.tower.patch_embed.proj)
        cos, sin = self.tower.rotary_pos_emb(hidden, position_ids)
        for block in self.tower.blocks:
            hidden = encode(block, hidden, cos, sin)
        features: torch.Tensor = self.tower.merger(hidden)
        return features


class WindowedPatches(_Tower):
    """As `Patches`, but in most blocks a patch sees its own window alone (Qwen2.5-VL).

    window_gather `[windows, size]`: the patches of each window, padded with -1. No mask over all pairs of
    patches: a window holds 64 at most, a picture thousands.
    """

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Windows have an axis of their own."""
        return {**super().axes, "window_gather": {0: WINDOWS}}

    def samples(self) -> dict[str, torch.Tensor]:
        """A blank picture of two windows."""
        plain = super().samples()
        merge = self.tower.spatial_merge_size
        size = (self.tower.window_size // merge // self.tower.patch_size * merge) ** 2
        places = torch.arange(2 * size)
        gather = torch.where(places < len(plain["position_ids"]), places, -1).reshape(2, size)
        return {**plain, "window_gather": gather}

    def forward(
        self, pixel_values: torch.Tensor, position_ids: torch.Tensor, window_gather: torch.Tensor
    ) -> torch.Tensor:
        hidden = embedded(pixel_values, self.tower.patch_embed.proj)
        cos, sin = self.tower.rotary_pos_emb(hidden, position_ids)
        windows = windows_of(window_gather, hidden.shape[0], hidden.dtype)
        for number, block in enumerate(self.tower.blocks):
            whole = number in self.tower.fullatt_block_indexes
            hidden = encode(block, hidden, cos, sin, None if whole else windows)
        features: torch.Tensor = self.tower.merger(hidden)
        return features


class DeepstackPatches(_Tower):
    """As `Patches`, with a learned table of positions, resampled, and features of inner blocks (Qwen3-VL).

    interp_indices, interp_weights: `[patches, 4]`. Returns image_features and, for the first decoder layers,
    deepstack_features.i, each `[tokens, hidden]`.
    """

    taps = 4

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        count = len(self.tower.deepstack_visual_indexes)
        self.outputs = ("image_features", *(f"deepstack_features.{i}" for i in range(count)))

    def forward(
        self,
        pixel_values: torch.Tensor,
        position_ids: torch.Tensor,
        interp_indices: torch.Tensor,
        interp_weights: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        tower = self.tower
        hidden = embedded(pixel_values, tower.patch_embed.proj)
        hidden = hidden + resampled(tower.pos_embed.weight, interp_indices, interp_weights).to(hidden.dtype)
        cos, sin = tower.rotary_pos_emb(hidden, position_ids)
        inner = {}
        for number, block in enumerate(tower.blocks):
            hidden = encode(block, hidden, cos, sin)
            if number in tower.deepstack_visual_indexes:
                place = list(tower.deepstack_visual_indexes).index(number)
                inner[place] = tower.deepstack_merger_list[place](hidden)
        # In the order in which the tower meets them, as transformers hands them to the decoder.
        return (tower.merger(hidden), *inner.values())


class ConvolvedPatches(_Tower):
    """As `Patches`, with a learned table of positions, resampled, and a convolution that merges (GLM-4V).

    interp_indices, interp_weights: `[patches, 16]`.
    """

    taps = 16

    def forward(
        self,
        pixel_values: torch.Tensor,
        position_ids: torch.Tensor,
        interp_indices: torch.Tensor,
        interp_weights: torch.Tensor,
    ) -> torch.Tensor:
        tower = self.tower
        hidden = tower.post_conv_layernorm(embedded(pixel_values, tower.patch_embed.proj))
        cos, sin = tower.rotary_pos_emb(hidden, position_ids)
        table = tower.embeddings.position_embedding.weight
        hidden = hidden + resampled(table, interp_indices, interp_weights).to(hidden.dtype)
        for block in tower.blocks:
            hidden = encode(block, hidden, cos, sin)
        # The convolution's kernel is a block of patches: a product, with the channels last.
        kernel = tower.downsample.weight.permute(0, 2, 3, 1).flatten(1)
        blocks = tower.post_layernorm(hidden).reshape(-1, kernel.shape[1])
        features: torch.Tensor = tower.merger(functional.linear(blocks, kernel, tower.downsample.bias))
        return features


class UnorderedPatches(_Tower):
    """Patches in any order, merged by where they are, in a projector of its own (PaddleOCR-VL: row by row).

    pixel_values `[patches, values]`, position_ids `[patches, 2]`, interp_indices and interp_weights
    `[patches, 4]` -> image_features `[tokens, hidden]`.
    """

    taps = 4

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        self.projector: Any = parts.projector

    def _kernel(self) -> tuple[torch.Tensor, int]:
        weight = self.tower.vision_model.embeddings.patch_embedding.weight
        return weight, self.projector.merge_kernel_size[0]

    def forward(
        self,
        pixel_values: torch.Tensor,
        position_ids: torch.Tensor,
        interp_indices: torch.Tensor,
        interp_weights: torch.Tensor,
    ) -> torch.Tensor:
        tower, projector = self.tower.vision_model, self.projector
        hidden = embedded(pixel_values, tower.embeddings.patch_embedding)
        table = tower.embeddings.position_embedding.weight
        hidden = hidden + resampled(table, interp_indices, interp_weights).to(hidden.dtype)
        cos, sin = tower.encoder.rotary_pos_emb(hidden, position_ids)
        for block in tower.encoder.layers:
            hidden = encode(block, hidden, cos, sin)
        hidden = projector.pre_norm(tower.post_layernorm(hidden))
        merge = projector.merge_kernel_size[0]
        blocks = hidden[_block_order(position_ids, merge)].reshape(-1, merge * merge * hidden.shape[-1])
        features: torch.Tensor = projector.linear_2(projector.act(projector.linear_1(blocks)))
        return features


def _block_order(position_ids: torch.Tensor, merge: int) -> torch.Tensor:
    """Rows and columns `[patches, 2]` -> the patches, block by block, rows of blocks first: `[patches]`."""
    row, column = position_ids.unbind(-1)
    blocks_per_row = column.max() // merge + 1
    block = (row // merge) * blocks_per_row + column // merge
    place = block * merge * merge + (row % merge) * merge + column % merge
    return torch.zeros_like(place).scatter(0, place, torch.arange(place.shape[0], device=place.device))
