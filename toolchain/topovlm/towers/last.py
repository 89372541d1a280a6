"""Towers whose last features are projected as they are (PaliGemma, Gemma3, Perception-LM, FastVLM)."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import nn

from topovlm.families.torch_parts import TorchParts
from topovlm.towers.whole import WholePictures


class LastFeatures(WholePictures):
    """pixel_values `[images, 3, H, W]` -> image_features `[images, tokens, hidden]`.

    Pooling, where the family has it, is the projector's. Gemma's decoder scales the embeddings of words and
    not these.
    """

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Of the tower's last layer, `[images, patches, width]`."""
        features: torch.Tensor = self.tower(pixel_values, return_dict=True).last_hidden_state
        return features

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projector(self.features(pixel_values))
        return projected


class TiledFeatures(LastFeatures):
    """The same of tiles, without the class token where the tower has one; a timm tower (Perception-LM)."""

    axes: ClassVar = {"pixel_values": {0: "num_tiles"}}

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank tiles of the size that the tower is made with."""
        side = self.parts.model.config.vision_config.model_args["img_size"]
        height, width = (side, side) if isinstance(side, int) else side
        return {"pixel_values": torch.zeros((2, 3, height, width), dtype=self.parts.dtype)}

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        first = 1 if self.parts.model.config.vision_use_cls_token else 0
        return super().features(pixel_values)[:, first:]

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # Step by step: the projector itself swaps tiles and patches and back, which changes no number, and
        # on which ONNX Runtime 1.32 ends the process as it loads an fp16 graph.
        projector = self.projector
        hidden = projector.linear_1(self.features(pixel_values))
        projected: torch.Tensor = projector.pooling(projector.linear_2(projector.gelu(hidden)))
        return projected


class FeatureMaps(LastFeatures):
    """The same of a convolutional tower, whose features are maps `[images, width, rows, columns]` (FastVLM).

    Its configuration states no picture size and it needs none: height and width are dynamic. What its batch
    norms have stored is weights to a graph: they are parameters of a copy.
    """

    axes: ClassVar = {"pixel_values": {0: "num_images", 2: "height", 3: "width"}}

    def __init__(self, parts: TorchParts) -> None:
        super().__init__(parts)
        self.tower = copy.deepcopy(parts.tower)
        for name in set(self.tower.state_dict()) - {name for name, _ in self.tower.named_parameters()}:
            owner, _, leaf = name.rpartition(".")
            module = self.tower.get_submodule(owner)
            stored = module.get_buffer(leaf)
            delattr(module, leaf)
            module.register_parameter(leaf, nn.Parameter(stored, requires_grad=False))

    def samples(self) -> dict[str, torch.Tensor]:
        """Two blank pictures of 2 x 3 tokens at FastViT's 64 px per token."""
        return {"pixel_values": torch.zeros((2, 3, 128, 192), dtype=self.parts.dtype)}

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return super().features(pixel_values).flatten(2).transpose(1, 2)
