"""The sizes of a vision-language model that decide what it costs to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DecoderShape:
    """`sliding_share`: share of layers whose attention sees only `sliding_window` tokens."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    gated: bool = True
    sliding_window: int | None = None
    sliding_share: float = 0.0

    @property
    def linear_params_per_layer(self) -> int:
        """Weights of the matrix products of one layer."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return attention + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def head_params(self) -> int:
        return self.hidden * self.vocab

    @property
    def kv_values_per_token_layer(self) -> int:
        return 2 * self.kv_heads * self.head_dim

    def attended_tokens(self, context: float) -> float:
        """Mean over layers of how many cached tokens one new token reads."""
        window = min(context, self.sliding_window) if self.sliding_window else context
        return self.sliding_share * window + (1 - self.sliding_share) * context


@dataclass(frozen=True)
class VisionShape:
    """`projector_params_per_token`: weights applied to each visual token that leaves the tower."""

    layers: int
    hidden: int
    intermediate: int
    gated: bool
    patch: int
    image_size: int
    channels: int
    class_token: bool
    merge: int
    temporal_patch: int
    window_patches: int | None
    windowed_layers: int
    projector_params_per_token: int

    @property
    def linear_params_per_layer(self) -> int:
        return 4 * self.hidden**2 + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def patch_params(self) -> int:
        return self.channels * self.temporal_patch * self.patch**2 * self.hidden

    @property
    def params(self) -> int:
        return (
            self.layers * self.linear_params_per_layer + self.patch_params + self.projector_params_per_token
        )


@dataclass(frozen=True)
class ModelShape:
    """Decoder, tower, and the facts of the image processor that decide the number of visual tokens."""

    model_type: str
    layout: str
    decoder: DecoderShape
    vision: VisionShape | None
    drop_first_token: bool = False
    tokens_per_image: int | None = None
    grid_pinpoints: tuple[tuple[int, int], ...] = ()
    max_tiles: int = 1
    longest_edge: int = 0
    min_pixels: int = 0
    max_pixels: int = 0

    @property
    def total_layers(self) -> int:
        return self.decoder.layers

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None
    ) -> ModelShape:
        """Read a config.json (and, for pixel bounds and tiles, a preprocessor_config.json).

        Values that the file leaves out are those that transformers would supply. Raises `InputError`
        naming the field for a mixture of experts, an unknown model type or a missing size.
        """
        from topovlm.families.sizes import read_config

        return read_config(config, preprocessor)
