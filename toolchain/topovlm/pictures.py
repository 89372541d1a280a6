"""Picture files, opened one way for every path: calibration, evaluation and the runtime."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from topovlm.errors import InputError, explain

# What Pillow raises for truncated and malformed files; a broken EXIF block gives the last four.
_MALFORMED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


def load_image(path: str | Path) -> Image.Image:
    """A picture file as an upright RGB image (by its EXIF tag). Raises `InputError` naming the file."""
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise InputError(explain("image", str(path), "no such file")) from None
    except IsADirectoryError:
        raise InputError(explain("image", str(path), "is a folder", "Give one picture file")) from None
    except UnidentifiedImageError:
        raise InputError(
            explain("image", str(path), "is not a picture that Pillow can read", "Use PNG, JPEG or WebP")
        ) from None
    except Image.DecompressionBombError as error:
        raise InputError(explain("image", str(path), f"is too large: {error}", "Scale it down")) from None
    except _MALFORMED as error:
        raise InputError(explain("image", str(path), f"is broken: {error}", "Save it again")) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB; transparency is laid on white, as the Hugging Face processors do."""
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")
