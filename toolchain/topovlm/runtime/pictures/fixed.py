"""Whole pictures at one size, as many tokens each (LLaVA-1.5, ViP-LLaVA, PaliGemma, FastVLM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.configs import text_part
from topovlm.records import Strict
from topovlm.runtime.pictures.recipe import ImageRecipe, to_pixels
from topovlm.runtime.pictures.seen import Film, Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source


class Kind(Strict, frozen=True, kw_only=True):
    """What a family does otherwise than LLaVA, as its record says it (`tokens.pictures`).

    `bos_token_id`: of the token that begins the text behind the pictures, where config.json names no other;
    None where nothing is written there.
    """

    bos_token_id: int | None = None


@dataclass(frozen=True)
class Fixed(OneForOne):
    """`patch`: px. `extra`: tokens beside the grid; the class token, or -1 where the first is left out."""

    recipe: ImageRecipe
    placeholder: str
    patch: int
    extra: int
    joins: bool = True

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[1, 3, H, W]`."""
        pixels = to_pixels(picture, self.recipe)
        rows, columns = (side // self.patch for side in pixels.shape[1:])
        return Seen({"pixel_values": pixels[None]}, rows * columns + self.extra)

    def see_all(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        """Each by itself. Raises `InputError` when the recipe leaves their sizes different."""
        seens = super().see_all(pictures)
        shapes = sorted({seen.feeds["pixel_values"].shape for seen in seens})
        if len(shapes) > 1:
            rule = "must come out of the image processor with one shape"
            raise InputError(explain("images", shapes, rule))
        return seens


@dataclass(frozen=True)
class Prefixed(Fixed):
    """The prompt is pictures, the beginning of the text, the text and a newline (PaliGemma)."""

    bos: str = ""

    def whole(self, prompt: str, seens: Sequence[Seen], films: Sequence[Film] = ()) -> str:
        """As its processor: the text begins behind the last placeholder; without one, pictures come first."""
        if self.placeholder not in prompt:
            prompt = self.placeholder * len(seens) + prompt
        end = prompt.rfind(self.placeholder) + len(self.placeholder) if seens else 0
        return super().whole(f"{prompt[:end]}{self.bos}{prompt[end:]}\n", seens, films)


def build(source: Source) -> Fixed:
    """Raises `InputError` for a step that is not LLaVA's, CLIP's or SigLIP's."""
    recipe = ImageRecipe.from_config(source.images, FIELD)
    patch = int(source.vision("patch_size") or source.stated("patch_size"))
    dropped = source.whole("vision_feature_select_strategy") == "default"
    extra = source.class_token - dropped
    kind = source.rules(Kind)
    if kind.bos_token_id is None:
        return Fixed(recipe, source.image_token(), patch, extra)
    text = text_part(source.config)
    bos = int(source.whole("bos_token_id") or text.get("bos_token_id") or kind.bos_token_id)
    return Prefixed(recipe, source.image_token(), patch, extra, bos=source.token(bos))
