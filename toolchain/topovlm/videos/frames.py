"""What is left of a video once its frames are chosen: pictures, and when each is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topovlm.errors import InputError, explain

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Frames:
    """Upright RGB pictures of one size, at least one, in the order in which they are seen.

    `indices`: their places among the `total` frames of the clip, or of the part of it that is shown, which
    shows `fps` a second.
    """

    pictures: tuple[Image, ...]
    indices: tuple[int, ...]
    fps: float
    total: int

    @classmethod
    def of(cls, pictures: Sequence[Image], *, fps: float = 1.0) -> Frames:
        """A whole clip given as pictures: what tells no rate is seen one a second. Raises `InputError`."""
        from topovlm.pictures import to_rgb

        if not pictures:
            raise InputError(explain("video", 0, "is the number of its frames: there is nothing to see"))
        if not 0 < fps < float("inf"):
            raise InputError(explain("video", fps, "is the number of its frames a second: none"))
        shown = tuple(map(to_rgb, pictures))
        sizes = {picture.size for picture in shown}
        if len(sizes) > 1:
            rule = "are sizes of frames of one video, and they must be the same"
            raise InputError(explain("video", sorted(sizes), rule))
        return cls(shown, tuple(range(len(shown))), float(fps), len(shown))

    @classmethod
    def chosen(
        cls, pictures: tuple[Image, ...], indices: tuple[int, ...], fps: float, total: int, name: str
    ) -> Frames:
        """What a file gave. Raises `InputError` naming it for frames of several sizes."""
        if len({picture.size for picture in pictures}) > 1:
            raise InputError(explain("video", name, "changes its size from frame to frame", "Convert it"))
        return cls(pictures, indices, fps, total)

    @classmethod
    def flicker(cls, size: tuple[int, int], number: int) -> Frames:
        """`number` >= 1 frames, black and white in turn, `size` (width, height) in px: nothing stays the same
        from one to the next, so a model that leaves that out takes all."""
        from PIL import Image

        pair = [Image.new("RGB", size, colour) for colour in ("black", "white")]
        return cls.of([pair[index % 2] for index in range(number)])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return self.pictures[0].size

    @property
    def seconds(self) -> tuple[float, ...]:
        """When each frame is shown, at the clip's mean rate."""
        return tuple(index / self.fps for index in self.indices)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the pixels and of when they are seen: the same however the clip was stored."""
        from topovlm.pictures import pixel_digest

        state = hashlib.sha256(repr(self.seconds).encode())
        for picture in self.pictures:
            state.update(pixel_digest(picture).encode())
        return state.hexdigest()
