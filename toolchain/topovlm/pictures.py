"""Pictures, opened and made RGB one way for every path: calibration, evaluation, the report and the runtime.

Formats: PNG, JPEG, WebP, BMP, GIF, TIFF and PPM, by their content; no other reader of Pillow is ever started.
Size: at most `MOST_PIXELS` in all and `MOST_SIDE` a side, known before a pixel is decoded.

Rules, each leading to 8-bit RGB:

- The first frame of several. Upright by the EXIF tag (or XMP's). Colour profiles are not applied.
- Transparency (an alpha channel, a transparent colour or palette entry) is laid on white.
- Grey, black and white, palette, YCbCr, HSV, CMYK (Adobe's inverted JPEG too): as Pillow converts them.
- 16-bit grey: the high byte, as of 16-bit colour in PNG; never clipped at 255. TIFF's 12 bits are widened
  first, and where white is zero it is turned round.
- 32-bit integers, floats and LAB have no range or reader that everybody agrees on: refused.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from topovlm.errors import InputError, explain
from topovlm.plain_files import Stored, open_plain

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MOST_PIXELS = 2**26  # 8192 x 8192: decoded, laid on white and turned in under a gigabyte
MOST_SIDE = 65_535  # JPEG's own bound
# What Pillow raises for truncated and malformed files; a broken EXIF block gives the last four.
_MALFORMED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
_GREY_16 = {"I;16", "I;16L", "I;16B", "I;16N"}
_PLAIN = {"RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "RGBX"}
_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
_PILLOW_READS_16_BITS_AS_I = {"PNG", "PPM"}  # PNG in releases before 11
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
_ROWS = 256  # of a strip


def _opened(picture: str | Path | Stored) -> BinaryIO:
    return io.BytesIO(picture.read()) if isinstance(picture, Stored) else open_plain(picture, field="image")


def load_image(path: str | Path | Stored) -> Image.Image:
    """A picture file as an upright RGB image. Raises `InputError` naming the file."""
    with _opened(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is lower
        try:
            with Image.open(file, formats=FORMATS) as image:
                return to_rgb(image, str(path))
        except InputError:
            raise
        except UnidentifiedImageError:
            rule, remedy = "is not a picture that can be read", f"Known are {', '.join(FORMATS)}"
            raise InputError(explain("image", str(path), rule, remedy)) from None
        except Image.DecompressionBombError:
            raise InputError(explain("image", str(path), *_TOO_LARGE)) from None
        except _MALFORMED as error:
            raise InputError(explain("image", str(path), f"is broken: {error}", "Save it again")) from None


_TOO_LARGE = (f"has more than {MOST_PIXELS} pixels", "Scale it down")


def to_rgb(image: Image.Image, name: str = "") -> Image.Image:
    """Any picture -> upright RGB by the rules above; one that is so already is given back as it is.

    `name` says which for the error. Raises `InputError` for one that is empty, too large, broken or of a kind
    that is refused.
    """
    name = name or f"<picture in memory, {image.mode}>"
    wide, high = image.size
    if wide < 1 or high < 1:
        raise InputError(explain("image", name, f"is empty ({wide} x {high})"))
    if wide * high > MOST_PIXELS:
        raise InputError(explain("image", name, *_TOO_LARGE))
    if max(wide, high) > MOST_SIDE:
        raise InputError(
            explain("image", name, f"has a side of more than {MOST_SIDE} pixels", "Scale it down")
        )
    if image.mode not in _PLAIN | _ALPHA | _GREY_16 and not _is_wide_grey(image):
        rule = f"has pixels of the kind {image.mode}, whose range is not known"
        raise InputError(explain("image", name, rule, "Save it with 8 or 16 bits, grey or RGB"))
    try:
        image.load()
        return _converted(ImageOps.exif_transpose(image) if _is_turned(image) else image)
    except _MALFORMED as error:
        raise InputError(explain("image", name, f"is broken: {error}", "Save it again")) from None


def picture_size(image: Image.Image | Path | Stored) -> tuple[int, int]:
    """(height, width) in px, without its EXIF tag; of a file, opened before, from its header."""
    if isinstance(image, (Path, Stored)):
        with _opened(image) as file, Image.open(file, formats=FORMATS) as opened:
            return opened.height, opened.width
    return image.height, image.width


def pixel_digest(image: Image.Image) -> str:
    """sha256 (hex) of an RGB picture's size and pixels: the same however it was stored."""
    state = hashlib.sha256(f"{image.size[0]}x{image.size[1]};".encode())
    for box in _strips(image.size):
        state.update(image.crop(box).tobytes())
    return state.hexdigest()


def _is_turned(image: Image.Image) -> bool:
    return int(image.getexif().get(0x0112, 1) or 1) != 1


def _is_wide_grey(image: Image.Image) -> bool:
    """16 bits in Pillow's mode of 32."""
    return image.mode == "I" and image.format in _PILLOW_READS_16_BITS_AS_I


def _converted(image: Image.Image) -> Image.Image:
    if image.mode in _GREY_16 or image.mode == "I":
        image = _high_byte(image)
    if image.mode in _ALPHA or image.info.get("transparency") is not None:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _high_byte(image: Image.Image) -> Image.Image:
    """16-bit grey -> 8-bit grey, with alpha where one of its values is transparent."""
    import numpy as np

    tags: Any = getattr(image, "tag_v2", {})
    values: Any = np.asarray(image).astype(np.uint16)
    clear = image.info.get("transparency")
    alpha = None if clear is None else np.where(values == clear, 0, 255).astype(np.uint8)
    if tuple(tags.get(_BITS, ())) == (12,):
        values = values << 4
    high = (values >> 8).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        high = 255 - high
    grey = Image.fromarray(high)
    if alpha is None:
        return grey
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def _on_white(image: Image.Image) -> Image.Image:
    """In strips: whole, three pictures of four bytes a pixel would be in memory at once."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:  # of 16-bit colour, whose pixels are high bytes by now
        clear = tuple(part >> 8 for part in clear)
    if image.mode in {"La", "RGBa"}:  # colours that are multiplied already
        image = image.convert(image.mode.upper())
    canvas = Image.new("RGB", image.size)
    for box in _strips(image.size):
        strip = image.crop(box)
        if clear is not None:
            strip.info["transparency"] = clear
        strip = strip.convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        canvas.paste(Image.alpha_composite(white, strip).convert("RGB"), box)
    return canvas


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover a picture from its top."""
    wide, high = size
    for top in range(0, high, _ROWS):
        yield 0, top, wide, min(top + _ROWS, high)
