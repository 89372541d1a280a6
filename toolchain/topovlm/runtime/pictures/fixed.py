"""Whole pictures at one size, as many tokens each (LLaVA-1.5, ViP-LLaVA, Video-LLaVA, PaliGemma, FastVLM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.configs import text_part
from topovlm.records import Strict
from topovlm.runtime.pictures.recipe import ImageRecipe, to_pixels
from topovlm.runtime.pictures.seen import FILM_PIXELS, Film, Seen
from topovlm.runtime.pictures.source import FIELD, OneForOne, Source
from topovlm.runtime.pictures.steps import CLIP_MEAN, CLIP_STD
from topovlm.videos.frames import Frames

_FILMS = "video_preprocessor_config.json"


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
class Paired(Fixed):
    """Frames of videos have a tower of their own, beside the one for pictures (Video-LLaVA).

    Each run of the graph shows pictures or frames, and none of the other kind. `film_extra`: as `extra`, of a
    frame.
    """

    film_recipe: ImageRecipe | None = None
    film_placeholder: str = ""
    film_extra: int = 0

    def see(self, picture: Image.Image) -> Seen:
        """pixel_values float32 `[1, 3, H, W]`, pixel_values_videos `[0, 3, H, W]`."""
        seen = super().see(picture)
        shown = seen.feeds["pixel_values"]
        return Seen({"pixel_values": shown, FILM_PIXELS: shown[:0]}, seen.tokens)

    def watch(self, frames: Frames) -> Film:
        """Each frame a run, pixel_values_videos float32 `[1, 3, H, W]`."""
        if self.film_recipe is None:
            return super().watch(frames)
        shown = [to_pixels(picture, self.film_recipe)[None] for picture in frames.pictures]
        runs = tuple({"pixel_values": pixels[:0], FILM_PIXELS: pixels} for pixels in shown)
        rows, columns = (side // self.patch for side in shown[0].shape[2:])
        tokens = len(shown) * (rows * columns + self.film_extra)
        return Film(runs, tokens, self.film_placeholder * tokens)


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
    if source.tokens.videos is not None:
        token, films = source.film_token(), _film_recipe(source)
        return Paired(
            recipe,
            source.image_token(),
            patch,
            extra,
            film_recipe=films if token else None,
            film_placeholder=token,
            film_extra=int(source.class_token),
        )
    if kind.bos_token_id is None:
        return Fixed(recipe, source.image_token(), patch, extra)
    text = text_part(source.config)
    bos = int(source.whole("bos_token_id") or text.get("bos_token_id") or kind.bos_token_id)
    return Prefixed(recipe, source.image_token(), patch, extra, bos=source.token(bos))


def _film_recipe(source: Source) -> ImageRecipe:
    """Of frames. Raises `InputError` where they would be of another size than the tower's."""
    side = int(source.vision("image_size"))
    mean, std = source.film("image_mean", CLIP_MEAN), source.film("image_std", CLIP_STD)
    usual = {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": side}
    recipe = ImageRecipe.from_config({**usual, **source.videos, "image_mean": mean, "image_std": std}, _FILMS)
    made = recipe.crop or recipe.size
    if made != (side, side):
        rule = f"must bring frames to the tower's size, {side} px"
        raise InputError(explain(f"{_FILMS}: size", source.film("size"), rule))
    return recipe
