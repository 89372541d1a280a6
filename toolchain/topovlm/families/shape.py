"""The sizes of a model that decide what it costs to run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderShape:
    """`sliding_share`: share of layers whose attention sees only `sliding_window` tokens.

    `sparse_share`: share of layers whose MLP is a mixture of `experts` experts of width
    `expert_intermediate`, of which a token goes through `active_experts`. All of them are stored.
    """

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
    experts: int = 0
    active_experts: int = 0
    expert_intermediate: int = 0
    sparse_share: float = 0.0

    @property
    def linear_params_per_layer(self) -> int:
        """Weights of the matrix products of one layer, as stored; the mean over layers of either kind."""
        return self._params(self.experts)

    def used_params_per_layer(self, tokens: int = 1) -> int:
        """As `linear_params_per_layer`, but of the weights that `tokens` tokens read at most."""
        return self._params(min(self.experts, tokens * self.active_experts))

    def _params(self, experts: int) -> int:
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        matrices = 3 if self.gated else 2
        dense = matrices * self.hidden * self.intermediate
        if not self.sparse_share:
            return attention + dense
        router = self.hidden * self.experts
        sparse = router + experts * matrices * self.hidden * self.expert_intermediate
        return attention + round(self.sparse_share * sparse + (1 - self.sparse_share) * dense)

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
    """`image_size`: px, 0 for a tower that takes any size. `patch`: px. `merge`: patches along one side of a
    visual token. `projector_params_per_token`: weights applied to each visual token that leaves the tower.
    `projector_params_per_patch`: those applied to each patch before several become one token.
    `stored_params`: weights of the layers, where the sizes stand for a tower of another kind (else 0).
    `towers`: how many of these sizes are stored; each picture goes through one.
    """

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
    projector_params_per_patch: int = 0
    stored_params: int = 0
    towers: int = 1

    @property
    def linear_params_per_layer(self) -> int:
        return 4 * self.hidden**2 + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def patch_params(self) -> int:
        return self.channels * self.temporal_patch * self.patch**2 * self.hidden

    @property
    def params(self) -> int:
        layers = self.stored_params or self.layers * self.linear_params_per_layer
        projector = self.projector_params_per_token + self.projector_params_per_patch
        return self.towers * (layers + self.patch_params) + projector


@dataclass(frozen=True)
class FilmBounds:
    """Px that frames of a video are brought between: each of them, or all `together`; `divided`: the upper
    bound is all frames' in equal parts.

    `merge`: patches along one side of a visual token, 0 for as many as in pictures. `sifts`: what stays the
    same from frame to frame makes no tokens, so that counts are upper bounds.
    """

    min_pixels: int
    max_pixels: int
    together: bool = False
    divided: bool = False
    merge: int = 0
    sifts: bool = False


@dataclass(frozen=True)
class ModelShape:
    """Decoder, tower, and the facts of the image processor that decide the number of visual tokens.

    `layout`, `frames`, `several`: functions of `families.vision`, as the family's record names them. `films`:
    of a family that brings frames to a size of their own. `clip_frames`: how many frames become tokens
    together, and a picture is repeated to; 0 where each is by itself. `clip_padding`: blank ones around them,
    and around their rows and columns.
    """

    model_type: str
    layout: str
    decoder: DecoderShape
    vision: VisionShape | None
    frames: str = ""
    several: str = ""
    drop_first_token: bool = False
    tokens_per_image: int | None = None
    clip_frames: int = 0
    clip_padding: int = 0
    grid_pinpoints: tuple[tuple[int, int], ...] = ()
    max_tiles: int = 1
    longest_edge: int = 0
    min_pixels: int = 0
    max_pixels: int = 0
    films: FilmBounds | None = None

    @property
    def total_layers(self) -> int:
        return self.decoder.layers

    @property
    def fixed_tokens(self) -> bool:
        """Whether a picture gives as many visual tokens at any size."""
        return self.layout in ("fixed", "clip")
