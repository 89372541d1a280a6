"""Image preparation against the Pillow backends of transformers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topovlm.errors import InputError
from topovlm.pictures import load_image
from topovlm.runtime.pictures.recipe import ImageRecipe, to_pixels


def picture(mode: str, width: int, height: int) -> Image.Image:
    """A smooth picture with noise in any mode."""
    rng = np.random.default_rng(width * height)
    ramp = np.linspace(0, 200, width * height * 4).reshape(height, width, 4)
    image = Image.fromarray((ramp + rng.uniform(0, 55, ramp.shape)).astype(np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert(mode)


def oracle(kind: str, settings: dict) -> object:
    """The named image processor of transformers, on Pillow."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}[kind](**settings)


SETTINGS = {
    "siglip-48": ("siglip", {"size": {"height": 48, "width": 48}}),
    "siglip-wide-bilinear": ("siglip", {"size": {"height": 24, "width": 40}, "resample": 2}),
    "clip-crop": ("clip", {"size": {"shortest_edge": 40}, "crop_size": {"height": 36, "width": 36}}),
    "clip-crop-larger": ("clip", {"size": {"shortest_edge": 21}, "crop_size": {"height": 36, "width": 33}}),
    "clip-no-resize": ("clip", {"do_resize": False, "crop_size": {"height": 30, "width": 30}}),
    "no-normalise": ("siglip", {"do_normalize": False, "size": {"height": 16, "width": 16}}),
    "no-rescale": ("siglip", {"do_rescale": False, "size": {"height": 16, "width": 16}}),
}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_transformers(name: str, mode: str) -> None:
    """Every mode and shape of picture comes out as the Hugging Face processor's tensor."""
    processor = oracle(*SETTINGS[name])
    recipe = ImageRecipe.from_config(processor.to_dict())
    for size in ((48, 48), (31, 77), (90, 20), (5, 3)):
        image = picture(mode, *size)
        want = np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(to_pixels(image, recipe), want, rtol=0, atol=2e-6)


def test_palette_with_transparency() -> None:
    """A transparent palette entry becomes white, as in the oracle."""
    image = Image.new("P", (6, 6), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.info["transparency"] = 0
    processor = oracle("siglip", {"size": {"height": 6, "width": 6}})
    want = np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0])
    got = to_pixels(image, ImageRecipe.from_config(processor.to_dict()))
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert got.min() == pytest.approx(1.0)


def test_flat_summary_is_enough() -> None:
    """The short form in the manifest (height, width, mean, std) gives the same recipe."""
    processor = oracle("siglip", {"size": {"height": 24, "width": 40}})
    full = processor.to_dict()
    flat = {"height": 24, "width": 40, "resample": full["resample"], "rescale_factor": full["rescale_factor"]}
    flat |= {"mean": full["image_mean"], "std": full["image_std"]}
    assert ImageRecipe.from_config(flat) == ImageRecipe.from_config(full)


def test_unknown_steps_are_refused() -> None:
    """Tiling and padding to a stated size are named, not silently left out."""
    for step in ("pad_size", "do_image_splitting", "image_grid_pinpoints"):
        with pytest.raises(InputError, match=step):
            ImageRecipe.from_config({"size": {"height": 8, "width": 8}, step: True})
    with pytest.raises(InputError, match="shortest_edge"):
        ImageRecipe.from_config({"size": {"longest_edge": 8}})
    with pytest.raises(InputError, match="image_mean"):
        ImageRecipe.from_config({"size": {"height": 8, "width": 8}})


def test_orientation_of_photographs(tmp_path: Path) -> None:
    """A file is turned upright by its EXIF tag, as transformers' load_image does."""
    from transformers.image_utils import load_image as reference

    image = picture("RGB", 12, 7)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = tmp_path / f"{orientation}.png"
        image.save(file, exif=exif)
        assert np.array_equal(np.asarray(load_image(file)), np.asarray(reference(str(file))))


def test_bad_files(tmp_path: Path) -> None:
    """Missing, foreign, cut and empty files are named in one sentence."""
    whole = tmp_path / "whole.png"
    picture("RGB", 40, 40).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:300])
    picture("RGB", 40, 40).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name in ("none.png", "cut.png", "cut.jpg", "text.png", "empty.png", "folder.png"):
        with pytest.raises(InputError, match=name):
            load_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # Pillow remarks on the damage
def test_damaged_pictures_are_bad_input(tmp_path: Path) -> None:
    """Bytes changed at random, EXIF block included: a picture or a sentence, never another error."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 1.5
    rng = np.random.default_rng(3)
    path = tmp_path / "picture"
    for kind in ("JPEG", "TIFF"):
        picture("RGB", 16, 12).save(path, kind, exif=exif)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(400):
            damaged = whole.copy()
            places = rng.integers(0, min(len(whole), 300), rng.integers(1, 5))
            damaged[places] = rng.integers(0, 256, len(places))
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(InputError):
                load_image(path)
