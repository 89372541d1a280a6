"""Pictures become RGB by written rules: nothing is clipped, guessed, started or waited for."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from topovlm import pictures
from topovlm.errors import InputError
from topovlm.pictures import MOST_PIXELS, load_image, pixel_digest, to_rgb

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
EIGHT = np.stack([GREY] * 3, axis=-1)


def pixels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


def saved(image: Image.Image, file: Path, **settings: Any) -> Any:
    """As it comes back from a file."""
    image.save(file, **settings)
    return pixels(load_image(file))


@pytest.mark.parametrize("factor", [257, 256])
@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_the_eight_bit_picture(tmp_path: Path, kind: str, factor: int) -> None:
    """Both ways to widen it; today's industrial, depth and X-ray cameras write such files."""
    wide = Image.fromarray(GREY.astype(np.uint16) * factor)
    assert abs(saved(wide, tmp_path / f"a.{kind}") - EIGHT).max() <= (kind == "pgm")
    assert (pixels(to_rgb(wide)) == EIGHT).all()


def test_sixteen_bit_grey_in_the_other_byte_order() -> None:
    """Of pictures that a program has in memory."""
    image = Image.frombytes("I;16B", (16, 16), (GREY.astype(">u2") * 257).tobytes())
    assert (pixels(to_rgb(image)) == EIGHT).all()


def png(wide: int, high: int, bits: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG file by hand; `rows` with their filter bytes, `more` chunks before them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", wide, high, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def test_one_transparent_value_of_sixteen_bits(tmp_path: Path) -> None:
    """Grey and colour: laid on white, as with eight bits."""
    grey = png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 0x1234, 0x8000), (b"tRNS", struct.pack(">H", 0x1234)))
    colours = struct.pack(">6H", *[0x1200, 0x3400, 0x5600], *[0x8000, 0, 0xFFFF])
    colour = png(2, 1, 16, 2, b"\0" + colours, (b"tRNS", colours[:6]))
    for name, data, second in (("grey", grey, (128,) * 3), ("colour", colour, (128, 0, 255))):
        (tmp_path / name).write_bytes(data)
        assert pixels(load_image(tmp_path / name)).tolist() == [[[255] * 3, list(second)]]


def tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """A grey TIFF by hand."""
    if bits == 12:
        flat = values.reshape(-1, 2).astype(int)
        raw = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in flat)
    else:
        raw = values.astype("<u2").tobytes()
    high, wide = values.shape
    tags = [
        (256, wide),
        (257, high),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 200),
        (277, 1),
        (278, high),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(raw))])
    head = b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4)
    return head.ljust(200, b"\0") + raw


def test_tiff_of_twelve_bits_and_of_white_zero(tmp_path: Path) -> None:
    """Pillow gives the first as dark sixteen bits, and does not turn the second round."""
    (tmp_path / "twelve").write_bytes(tiff(GREY.astype(np.uint16) * 16, 12, 1))
    assert (pixels(load_image(tmp_path / "twelve")) == EIGHT).all()
    (tmp_path / "white").write_bytes(tiff((255 - GREY).astype(np.uint16) * 257, 16, 0))
    assert (pixels(load_image(tmp_path / "white")) == EIGHT).all()


def test_other_kinds_are_what_they_show(tmp_path: Path) -> None:
    """Black and white, palettes with and without a transparent entry, alpha, CMYK, colours by hue."""
    dot = Image.new("1", (4, 4), 1)
    assert saved(dot, tmp_path / "1.png").min() == 255
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putdata([0, 1])
    assert saved(palette, tmp_path / "p.png").tolist() == [[[10, 20, 30], [200, 100, 0]]]
    assert saved(palette, tmp_path / "t.png", transparency=0).tolist() == [[[255] * 3, [200, 100, 0]]]
    assert saved(palette, tmp_path / "p.gif").tolist() == [[[10, 20, 30], [200, 100, 0]]]
    assert saved(Image.new("LA", (2, 2), (0, 0)), tmp_path / "la.png").min() == 255
    half = saved(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), tmp_path / "rgba.png")
    assert abs(half - 127).max() <= 1
    assert (pixels(to_rgb(Image.new("RGBa", (2, 2), (0, 0, 0, 0)))) == 255).all()
    inverted = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "cmyk.jpg")
    assert abs(inverted - [255, 0, 0]).max() <= 3
    assert (pixels(to_rgb(Image.new("RGB", (2, 2), (9, 200, 30)).convert("HSV"))) - [9, 200, 30]).max() <= 3
    assert (
        abs(pixels(to_rgb(Image.new("RGB", (2, 2), (9, 200, 30)).convert("YCbCr"))) - [9, 200, 30]).max() <= 2
    )


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first(tmp_path: Path, kind: str) -> None:
    """Animations and pages."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], lossless=True)
    assert abs(pixels(load_image(tmp_path / "a")) - [255, 0, 0]).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    """32-bit integers and floats may run from 0 to 1, to 255 or to anything; from files and from memory."""
    image = Image.new(mode, (4, 4))
    image.save(tmp_path / "a.tif")
    for refused in (lambda: load_image(tmp_path / "a.tif"), lambda: to_rgb(image)):
        with pytest.raises(InputError, match=rf"pixels of the kind {mode}.*8 or 16 bits"):
            refused()


def test_pictures_in_memory_follow_the_same_rules() -> None:
    """Empty and large ones, and those that lie on their side."""
    with pytest.raises(InputError, match="is empty"):
        to_rgb(Image.new("RGB", (0, 4)))
    with pytest.raises(InputError, match="has more than"):
        to_rgb(Image.new("1", (9000, 9000)))
    exif = Image.Exif()
    exif[0x0112] = 6
    held = io.BytesIO()
    Image.new("RGB", (8, 6)).save(held, "PNG", exif=exif)
    assert to_rgb(Image.open(held)).size == (6, 8)
    sound = Image.new("RGB", (3, 2))
    assert to_rgb(sound) is sound


def test_bombs_are_refused_before_a_pixel_is_decoded(tmp_path: Path) -> None:
    """By pixels in all and by side; with no warning of Pillow's to the user."""
    bmp = (40, 30_000, 30_000, 1, 24, *[0] * 6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\0;"
    bombs = {
        "large.png": png(16_384, 16_384, 1, 0, b""),
        "larger.png": png(2**31 - 1, 2**31 - 1, 1, 0, b""),
        "long.png": png(70_000, 10, 1, 0, b""),
        "large.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, *bmp),
        "large.ppm": b"P6 20000 20000 255\n",
        "large.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + frame,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, data in bombs.items():
            (tmp_path / name).write_bytes(data)
            with pytest.raises(
                InputError, match=rf"{name}.*(has more than|side of more than|is broken|not a picture)"
            ):
                load_image(tmp_path / name)


def test_text_chunks_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    """A few kilobytes of file."""
    text = b"note\0\0" + zlib.compress(bytes(80_000_000))
    (tmp_path / "a.png").write_bytes(png(1, 1, 8, 0, b"\0\0", (b"zTXt", text)))
    with pytest.raises(InputError, match=r"a\.png"):
        load_image(tmp_path / "a.png")


def test_a_picture_of_the_largest_size_takes_less_than_a_gigabyte(tmp_path: Path) -> None:
    """With an alpha channel and lying on its side: the most that is in memory at once."""
    code = (
        "import re, sys\n"
        "from topovlm.pictures import load_image\n"
        "image = load_image(sys.argv[1])\n"
        # Not ru_maxrss, which remembers the process that started this one.
        "print(*image.size, int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    side = int(MOST_PIXELS**0.5)
    Image.new("RGBA", (side, side)).save(tmp_path / "a.png", exif=exif, compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True
    )
    wide, high, mebibytes = map(int, done.stdout.split())
    assert (wide, high) == (side, side)
    assert mebibytes < 1000


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        b"%PDF-1.4\n",
        b"GRIB\0\0\0\0",
        b"\x89HDF\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_no_other_reader_is_started(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS file would be given to Ghostscript, whatever it is called."""
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    monkeypatch.setattr(os, "system", pytest.fail)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png.*not a picture that can be read.*PNG, JPEG"):
        load_image(tmp_path / "a.png")


def test_a_broken_profile_or_note_does_not_matter(tmp_path: Path) -> None:
    """Neither is used."""
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "x" * 100)
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    assert saved(image, tmp_path / "a.png", pnginfo=note, icc_profile=b"broken").tolist()[0][0] == [1, 2, 3]


def test_the_digest_is_of_what_is_seen(tmp_path: Path) -> None:
    """However it is stored; another pixel, or the same ones in another shape, are another picture."""
    image = Image.fromarray(np.arange(300 * 7 * 3, dtype=np.uint8).reshape(300, 7, 3))
    digests = set()
    for name in ("a.png", "a.bmp", "a.tif", "a.webp"):
        image.save(tmp_path / name, lossless=True)
        digests.add(pixel_digest(load_image(tmp_path / name)))
    assert digests == {pixel_digest(image)}
    image.putpixel((0, 299), (1, 1, 1))
    assert pixel_digest(image) not in digests
    assert pixel_digest(Image.new("RGB", (2, 8))) != pixel_digest(Image.new("RGB", (4, 4)))


def test_the_formats_are_those_that_pillow_has() -> None:
    """A misspelt one would be refused by Pillow at every picture."""
    Image.init()
    assert set(pictures.FORMATS) <= set(Image.OPEN)
