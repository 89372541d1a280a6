"""Small video files whose frames tell their number: frame k is all of the grey 4 k."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

STEP = 4  # grey levels from one frame to the next, more than any codec here loses
_OPTIONS = {
    "libx264": {"bf": "2", "g": "12", "crf": "1"},
    "libx265": {"x265-params": "lossless=1:log-level=none"},
}


def grey(number: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    return Image.new("RGB", size, (STEP * number,) * 3)


def write_clip(
    path: Path,
    pictures: list[Image.Image] | int,
    *,
    codec: str = "libx264",
    fps: Fraction | int = 10,
    pixels: str = "yuv420p",
    container: dict[str, str] | None = None,
) -> Path:
    """A clip of these frames, or of as many grey ones. H.264 with frames that refer to later ones."""
    shown = [grey(k) for k in range(pictures)] if isinstance(pictures, int) else pictures
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=_OPTIONS.get(codec, {}))
        stream.width, stream.height = shown[0].size if shown else (32, 24)
        stream.pix_fmt = pixels
        file.start_encoding()  # a clip without frames is a file, too
        for picture in shown:
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode(None))
    return path


def numbers(pictures: tuple[Image.Image, ...]) -> list[int]:
    """Which frames these are."""
    return [round(picture.getpixel((5, 5))[1] / STEP) for picture in pictures]
