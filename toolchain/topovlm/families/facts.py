"""What is asked of a model before any weight is read: sizes, layers, pictures, and how many tokens they are.

Plan, deployment and export ask the same object, so they cannot count differently.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass

from topovlm.families.canvases import of_each
from topovlm.families.catalogue import family_for
from topovlm.families.configs import ModelConfig, context_tokens, image_token_id, video_token_id
from topovlm.families.family import Action, Family
from topovlm.families.layers import protected_layers, tied_layers
from topovlm.families.shape import ModelShape
from topovlm.families.sizes import read_shape
from topovlm.families.vision import visual_tokens
from topovlm.workload import Workload

_STRIP = 15  # both sides of the longest strip that is taken, 200 to 1, over the root of its area: 14.2


@dataclass(frozen=True)
class ModelFacts:
    """A model's config.json and its image processor's configuration (None: that of its type), its video
    processor's too (None: the image processor's).

    Sizes raise `InputError` naming the field where the configuration cannot be used.
    """

    config: ModelConfig
    preprocessor: ModelConfig | None = None
    videos: ModelConfig | None = None

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @functools.cached_property
    def family(self) -> Family | None:
        """None for a model type that is not known."""
        return family_for(self.config)

    def allows(self, action: Action) -> bool:
        """Whether topovlm can do that with models of this family."""
        return self.family is not None and action in self.family.actions

    @functools.cached_property
    def shape(self) -> ModelShape:
        """Sizes for the predictor."""
        return read_shape(self.config, self.preprocessor, self.videos)

    @property
    def layers(self) -> int:
        """Decoder layers; old configurations leave the number out and mean their type's."""
        return self.shape.total_layers

    def protected_layers(self, extra: Collection[int] = ()) -> set[int]:
        """Layers that never go: the family's first and last, and those that it ties to their place."""
        tied = tied_layers(self.config, self.family)
        return protected_layers(self.layers, self.family, {*tied, *extra})

    @property
    def context_tokens(self) -> int | None:
        """Most tokens that the decoder's positions cover, where the configuration tells."""
        return context_tokens(self.config)

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for a picture."""
        return image_token_id(self.config, self.family.defaults if self.family else None)

    @property
    def video_token_id(self) -> int | None:
        """The token that stands for a video; None for a model that takes none."""
        family = self.family
        if family is None or family.tokens is None or family.tokens.videos is None:
            return None
        return None if self.shape.vision is None else video_token_id(self.config, family.defaults)

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) in px of a picture when nobody says: the tower's own, else any."""
        vision = self.shape.vision
        if vision is None or not vision.image_size:
            return Workload.image_height, Workload.image_width
        return vision.image_size, vision.image_size

    def workload(
        self,
        *,
        images: int = Workload.images,
        video_frames: int = Workload.video_frames,
        prompt_tokens: int = Workload.prompt_tokens,
        new_tokens: int = Workload.new_tokens,
        image_size: tuple[int, int] | None = None,
        visual_tokens: int | None = None,
    ) -> Workload:
        """One request to this model. `image_size`: (height, width) in px; `visual_tokens` replaces it.

        `video_frames` of that size are shown in place of pictures. A model that sees none gets none.
        """
        height, width = image_size or self.picture_size
        return Workload(
            images=images if self.shape.vision is not None and not video_frames else 0,
            video_frames=video_frames if self.shape.vision is not None else 0,
            image_height=height,
            image_width=width,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            visual_tokens=visual_tokens,
        )

    def most_film_tokens(self, frames: int) -> int:
        """Visual tokens of so many frames of one video at most, whatever their size."""
        vision, bounds = self.shape.vision, self.shape.films
        if vision is None or not frames:
            return 0
        if bounds is None:
            return self.visual_tokens(self.workload(video_frames=frames))
        steps, token = (
            -(-frames // vision.temporal_patch),
            (vision.patch * (bounds.merge or vision.merge)) ** 2,
        )
        if bounds.divided:
            # A strip at the lower bound, rounded up on both sides, may pass both bounds.
            least, most = bounds.min_pixels / token, of_each(bounds.max_pixels, frames) // token
            return steps * max(most + 1, math.ceil(least + _STRIP * math.sqrt(least)) + 1)
        if bounds.together:  # each step is as large as both of its frames
            return max(bounds.max_pixels // vision.temporal_patch // token + 1, steps)
        return steps * (bounds.max_pixels // token + 1)

    def visual_tokens(self, workload: Workload) -> int:
        """How many visual tokens the decoder sees per request."""
        return visual_tokens(self.shape, workload)
