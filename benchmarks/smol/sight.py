"""The tower and the projector: what is trained besides the decoder's small change.

The tower starts as the reference model's (four layers, trained on drawn pictures of 48 pixels). Its patches
are stretched from 8 to 16 pixels, which is exact for a picture enlarged twice, and four further layers that
write nothing yet stand behind its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.smol.pictures import SIDE

PATCH, WIDTH, LAYERS, REFERENCE_LAYERS = 16, 128, 8, 4


def vision_config() -> Any:
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=384,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )


class Sight(nn.Module):
    """Pictures -> what stands in the decoder's input in place of image tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers import SiglipVisionModel

        self.tower = SiglipVisionModel(vision_config())
        self.tower.set_attn_implementation("eager")
        self.linear_1, self.linear_2 = nn.Linear(WIDTH, width), nn.Linear(width, width)

    @property
    def inner(self) -> Any:
        return getattr(self.tower, "vision_model", self.tower)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [P, 96, 96, 3] -> [P, 36, width]."""
        scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        hidden = self.inner.embeddings(scaled)
        for layer in self.inner.encoder.layers:
            hidden = layer(hidden, attention_mask=None)
        projected: torch.Tensor = self.linear_2(nn.functional.gelu(self.linear_1(hidden)))
        return projected


def started(width: int, spread: float, seed: int) -> Sight:
    """As training starts; `spread`: standard deviation of the decoder's own embeddings."""
    from safetensors.torch import load_file

    from topovlm.reference import model_dir

    torch.manual_seed(seed)
    sight = Sight(width)
    published = load_file(model_dir() / "model.safetensors")
    held = {
        name.rpartition("vision_tower.")[2].removeprefix("vision_model."): value.float()
        for name, value in published.items()
        if "vision_tower." in name
    }
    patches = held["embeddings.patch_embedding.weight"]
    stretched = patches.repeat_interleave(PATCH // 8, 2).repeat_interleave(PATCH // 8, 3) / (PATCH // 8) ** 2
    held["embeddings.patch_embedding.weight"] = stretched
    _, unknown = sight.inner.load_state_dict(held, strict=False)
    assert not unknown, unknown
    for layer in sight.inner.encoder.layers[REFERENCE_LAYERS:]:
        nn.init.zeros_(layer.self_attn.out_proj.weight)
        nn.init.zeros_(layer.self_attn.out_proj.bias)
        nn.init.zeros_(layer.mlp.fc2.weight)
        nn.init.zeros_(layer.mlp.fc2.bias)
    # GELU of unit numbers has a standard deviation of about 0.6.
    nn.init.normal_(sight.linear_1.weight, std=WIDTH**-0.5)
    nn.init.normal_(sight.linear_2.weight, std=spread * width**-0.5 / 0.6)
    nn.init.zeros_(sight.linear_1.bias)
    nn.init.zeros_(sight.linear_2.bias)
    return sight
