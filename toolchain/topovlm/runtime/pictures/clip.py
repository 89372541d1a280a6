"""Pictures and videos as clips of a fixed number of frames, which become tokens together (VideoLLaMA2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.canvases import sampled
from topovlm.runtime.pictures.recipe import ImageRecipe, to_pixels
from topovlm.runtime.pictures.seen import Film, Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source
from topovlm.videos.frames import Frames
from topovlm.videos.rules import middle


@dataclass(frozen=True)
class Clip(OneForOne):
    """`frames`: of a clip. `patch`: px. `padding`: blank frames, rows and columns around a clip's patches."""

    recipe: ImageRecipe
    placeholder: str
    frames: int
    patch: int
    padding: int
    joins: bool = False

    @property
    def film_placeholder(self) -> str:  # type: ignore[override]  # the same place, whatever is shown there
        return self.placeholder

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[frames, 3, H, W]`: the picture as every frame."""
        pixels = to_pixels(picture, self.recipe)
        return self._seen(np.repeat(pixels[None], self.frames, 0))

    def watch(self, frames: Frames) -> Film:
        """One run, pixel_values float32 `[frames, 3, H, W]`.

        Of more frames than a clip has, and of fewer that were chosen of a longer one, the middles of equal
        parts. A shorter clip is followed by black frames.
        """
        shown = [to_pixels(picture, self.recipe) for picture in frames.pictures]
        if len(shown) < min(self.frames, frames.total) or len(shown) > self.frames:
            shown = [shown[index] for index in middle(len(shown), self.frames)]
        if len(shown) < self.frames:
            black = to_pixels(Image.new("RGB", frames.size), self.recipe)
            shown += [black] * (self.frames - len(shown))
        seen = self._seen(np.stack(shown))
        return Film((seen.feeds,), seen.tokens, self.placeholder * seen.tokens)

    def whole(self, prompt: str, seens: Sequence[Seen], films: Sequence[Film] = ()) -> str:
        """As the others; pictures and videos have one mark."""
        texts = [*(self.expand(seen) for seen in seens), *(film.text for film in films)]
        pieces = prompt.split(self.placeholder)
        if len(pieces) != len(texts) + 1:
            rule = f"must hold {self.placeholder} once per picture and video ({len(texts)})"
            raise InputError(explain("prompt", prompt, rule))
        return pieces[0] + "".join(text + piece for text, piece in zip(texts, pieces[1:], strict=True))

    def _seen(self, pixels: np.ndarray) -> Seen:
        rows, columns = (side // self.patch for side in pixels.shape[2:])
        steps, tall, wide = sampled(self.frames, rows, columns, self.padding)
        return Seen({"pixel_values": pixels}, steps * tall * wide)


def build(source: Source) -> Clip:
    """Raises `InputError` for a step that is not CLIP's or SigLIP's."""
    return Clip(
        recipe=ImageRecipe.from_config(source.images, FIELD),
        placeholder=source.image_token(),
        frames=int(source.whole("num_frames")),
        patch=int(source.vision("patch_size")),
        padding=int(source.whole("sampler_padding", 0)),
    )
