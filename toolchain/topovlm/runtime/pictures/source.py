"""The published files that a strategy is read from; transformers' defaults where they leave things out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import msgspec
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.families.catalogue import find_family
from topovlm.families.configs import image_token_id, video_token_id
from topovlm.families.family import Family, Tokens, Tower
from topovlm.families.sizes import picture_rules, tower_of
from topovlm.runtime.pictures.seen import Film, Seen
from topovlm.videos.frames import Frames

FIELD = "preprocessor_config.json"
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Source:
    """`images`, `processor`, `config`, `videos`: as `pictures.strategy` takes them; `token`: the text of a
    token id."""

    images: Mapping[str, Any]
    processor: Mapping[str, Any]
    config: Mapping[str, Any]
    token: Callable[[int], str]
    videos: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    def image(self, name: str, default: Any = None) -> Any:
        """A field of the image processor; null counts as left out."""
        return _stated(self.images, name, default)

    def film(self, name: str, default: Any = None) -> Any:
        """A field of the video processor."""
        return _stated(self.videos, name, default)

    def stated(self, name: str, default: Any = None) -> Any:
        """A field of the processor."""
        return _stated(self.processor, name, default)

    def whole(self, name: str, default: Any = None) -> Any:
        """A field at the top of config.json."""
        family = find_family(self.model_type)
        return _stated(self.config, name, _stated(family.defaults if family else {}, name, default))

    def vision(self, name: str, default: Any = None) -> Any:
        """A field of the tower's configuration."""
        return _stated(self._tower[1], name, default)

    @property
    def class_token(self) -> bool:
        return self._tower[0].class_token

    def rules(self, kind: type[Kind]) -> Kind:
        """What the family's record says of its pictures, in the strategy's own terms."""
        return msgspec.convert(self.tokens.pictures, kind)

    def film_rules(self, kind: type[Kind]) -> Kind | None:
        """What the family's record says of its videos; None where it takes none."""
        stated = self.tokens.videos
        return None if stated is None or not self.film_token() else msgspec.convert(stated, kind)

    @property
    def tokens(self) -> Tokens:
        """How the family's pictures become tokens."""
        return picture_rules(self.config, self._family)

    @cached_property
    def _tower(self) -> tuple[Tower, Mapping[str, Any]]:
        return tower_of({**self._family.defaults, **self.config}, self._family)

    @property
    def _family(self) -> Family:
        family = find_family(self.model_type)
        if family is None:
            rule = "the pictures of this model type are not known here"
            raise InputError(explain("model_type", self.model_type, rule))
        return family

    def image_token(self) -> str:
        """The text of the image token. Raises `InputError` when neither file nor family names it."""
        family = find_family(self.model_type)
        number = image_token_id(self.config, family.defaults if family else None)
        if number is None:
            rule = "must be there: it stands for a picture in the prompt"
            raise InputError(explain("config.json: image_token_id", None, rule))
        return self.token(number)

    def film_token(self) -> str:
        """The text of the token that stands for a video; empty where nothing names it.

        Tokenizers of models whose publishers use no videos are without it.
        """
        family = find_family(self.model_type)
        number = video_token_id(self.config, family.defaults if family else None)
        try:
            return "" if number is None else self.token(number)
        except InputError:
            return ""

    def edge(self, name: str, default: int) -> int:
        """`size`, in px, stated by this edge alone. Raises `InputError` where it is stated otherwise."""
        size = self.image("size", {name: default})
        if not isinstance(size, Mapping):
            raise InputError(explain(f"{FIELD}: size", size, f"must give {name} alone"))
        given = {key: value for key, value in size.items() if value is not None}
        if given.keys() != {name}:
            raise InputError(explain(f"{FIELD}: size", size, f"must give {name} alone"))
        return int(given[name])

    def resizes(self) -> None:
        """Raises `InputError` where the pictures are to keep their size."""
        if not self.image("do_resize", True):
            rule = "pictures of any size cannot be cut into tiles unless they are resized"
            raise InputError(explain(f"{FIELD}: do_resize", False, rule))

    def refuse(self, *steps: str) -> None:
        """Raises `InputError` for the first of `steps` that is switched on."""
        for step in steps:
            if self.image(step):
                rule = "is an image step that this runtime does not do"
                raise InputError(explain(f"{FIELD}: {step}", self.images[step], rule))


def _stated(values: Mapping[str, Any], name: str, default: Any) -> Any:
    value = values.get(name)
    return default if value is None else value


def square_side(value: Any, field: str) -> int:
    """A size in px that must be square: a number, or equal height and width. Raises `InputError`."""
    sides = _sides(value)
    if len(sides) != 1 or min(sides) < 1:
        raise InputError(explain(f"{FIELD}: {field}", value, "must give one square size"))
    return sides.pop()


def _sides(value: Any) -> set[int]:
    if isinstance(value, Mapping):
        return {int(side) for side in value.values() if side is not None}
    if isinstance(value, (list, tuple)):
        return {int(side) for side in value}
    return {int(value)} if isinstance(value, (int, float)) else set()


class OneForOne:
    """The usual strategy of the prompt: each placeholder gives way to its picture's text.

    The rest of `Strategy`, for those that see each picture by itself.
    """

    placeholder: str
    film_placeholder: str = ""

    def see(self, picture: Image.Image) -> Seen:
        raise NotImplementedError

    def expand(self, seen: Seen) -> str:
        """As many image tokens as the picture takes."""
        return self.placeholder * seen.tokens

    def see_all(self, pictures: Sequence[Image.Image]) -> list[Seen]:
        """Each by itself."""
        return [self.see(picture) for picture in pictures]

    def watch(self, frames: Frames) -> Film:
        raise InputError(explain("videos", len(frames.pictures), "this model takes no videos"))

    def whole(self, prompt: str, seens: Sequence[Seen], films: Sequence[Film] = ()) -> str:
        """The prompt with its pictures and videos in place."""
        texts = {self.placeholder: [self.expand(seen) for seen in seens]}
        if self.film_placeholder:
            texts[self.film_placeholder] = [film.text for film in films]
        for (mark, given), kind in zip(texts.items(), ("picture", "video"), strict=False):
            if prompt.count(mark) != len(given):
                rule = f"must hold {mark} once per {kind} ({len(given)})"
                raise InputError(explain("prompt", prompt, rule))
        left = {mark: iter(given) for mark, given in texts.items()}
        return re.sub("|".join(map(re.escape, texts)), lambda found: next(left[found[0]]), prompt)
