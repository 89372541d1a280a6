"""Pictures in tiles: against the processors of InternVL and Ovis 2, and the rules of Perception-LM's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.pictures.oracle import (
    made,
    pictures,
    same_pixels,
    same_prompt,
    tokenizer,
    without_torchvision,
)
from topovlm.errors import InputError
from topovlm.pictures import to_rgb

VISION = {"image_size": [32, 32], "patch_size": [8, 8]}
OVIS = ("<image>", "<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
CUTS: dict[str, dict[str, int]] = {
    "as published": {},
    "few": {"max_patches": 4},
    "at least": {"min_patches": 3, "max_patches": 6},
    "one": {"max_patches": 1},
}


@pytest.mark.parametrize("name", CUTS)
def test_fifty_pictures_equal_internvl(name: str) -> None:
    """Tiles and token ids of pictures of any size and mode."""
    from transformers import InternVLProcessor
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    marks = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
    }
    processor = object.__new__(InternVLProcessor)
    processor.tokenizer = tokenizer([], **marks, video_token="<video>")
    processor.image_processor = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, **CUTS[name])
    processor.image_seq_length = 4
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    processor.image_token = "<IMG_CONTEXT>"
    processor.image_token_id = processor.tokenizer.context_image_token_id
    config = {"model_type": "internvl", "vision_config": VISION, "image_token_id": processor.image_token_id}
    own = made("tiles", processor, config)
    assert own.joins
    prompt = "<IMG_CONTEXT>\nWhat is it?"
    for image in pictures():
        want = processor.image_processor(image, **InternVLProcessor.images_kwargs)
        seen = own.see(image)
        same_pixels(seen.feeds["pixel_values"], want["pixel_values"])
        text = processor.replace_image_token({"num_patches": want["num_patches"]}, 0)
        ids = processor.tokenizer(prompt.replace("<IMG_CONTEXT>", text))["input_ids"]
        same_prompt(own, [seen], processor, prompt, ids)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_to_patches": True},
        {"crop_to_patches": True, "max_patches": 5},
        {"crop_to_patches": True, "use_covering_area_grid": False, "min_patches": 2},
        {},
    ],
    ids=str,
)
def test_fifty_pictures_equal_ovis2(settings: dict[str, Any]) -> None:
    """Tiles and token ids of pictures of any size and mode, for both ways to choose a grid."""
    from transformers import Ovis2Processor
    from transformers.models.ovis2.image_processing_pil_ovis2 import Ovis2ImageProcessorPil

    images = Ovis2ImageProcessorPil(size={"height": 32, "width": 32}, **settings)
    processor = Ovis2Processor(images, tokenizer(OVIS), image_seq_length=4)
    processor_ids = processor.tokenizer.convert_tokens_to_ids
    config = {
        "model_type": "ovis2",
        "vision_config": {**VISION, "hidden_stride": 2},
        "image_token_id": processor_ids("<IMG_ATOM>"),
    }
    own = made("tiles", processor, config)
    assert own.placeholder == "<image>"
    for image in pictures():
        want = processor.image_processor(image)
        seen = own.see(image)
        same_pixels(seen.feeds["pixel_values"], want["pixel_values"])
        text = processor.replace_image_token({"grids": np.asarray(want["grids"])}, 0)
        assert own.expand(seen) == text
        assert seen.tokens == text.count("<IMG_ATOM>")
        assert own.whole("a <image> b", [seen]) == f"a {text} b"


@pytest.mark.parametrize(("most", "kind"), [(36, "thumb+tile"), (5, "thumb+tile"), (36, "thumb")])
def test_fifty_pictures_equal_perception_lm(most: int, kind: str) -> None:
    """Grids equal; pixels those of the Pillow backend's resize.

    The processor itself resamples with torch's 8-bit kernel, whose weights are coarser: within 1 grey level
    but for a few pixels in strips some px wide (here up to 5 % of them, by up to 7 levels).
    """
    import torch
    from transformers.image_transforms import resize

    module = without_torchvision("perception_lm.image_processing_perception_lm")
    perception = module.PerceptionLMImageProcessor
    rules = object.__new__(perception)
    rules.max_num_tiles = most
    marks = tokenizer(["<|image|>"])
    images = {"tile_size": 32, "max_num_tiles": most, "vision_input_type": kind}
    shown = SimpleNamespace(to_dict=lambda: images)
    processor = SimpleNamespace(tokenizer=marks, image_processor=shown)
    config = {
        "model_type": "perception_lm",
        "vision_config": {"model_type": "timm_wrapper"},
        "projector_pooling_ratio": 2,
        "image_token_id": marks.convert_tokens_to_ids("<|image|>"),
    }
    own = made("tiles", processor, config, patch_size=8)
    for image in pictures():
        seen = own.see(image)
        pixels = np.asarray(to_rgb(image)).transpose(2, 0, 1)
        fits = rules._fit_image_to_canvas(image.width, image.height, 32)
        columns, rows = fits or rules._find_closest_aspect_ratio(image.width, image.height, 32)
        exact, native = [], []
        for down, across in [(1, 1), (rows, columns)] if kind == "thumb+tile" else [(1, 1)]:
            size = (down * 32, across * 32)
            canvas = torch.tensor(resize(pixels, size, 3, input_data_format="channels_first"))[None]
            exact.append(perception._split(rules, canvas, across, down)[0])
            whole = torch.tensor(pixels)[None]
            canvas = torch.nn.functional.interpolate(whole, size, mode="bicubic", antialias=True)
            native.append(perception._split(rules, canvas, across, down)[0])
        same_pixels(seen.feeds["pixel_values"], (torch.cat(exact) / 255 - 0.5) / 0.5)
        apart = np.abs(seen.feeds["pixel_values"] * 127.5 + 127.5 - torch.cat(native).numpy())
        assert (apart > 1.001).mean() <= 0.05
        assert apart.max() <= 7.001
        assert seen.tokens == 4 * len(apart)
        assert own.expand(seen) == "<|image|>" * seen.tokens


def test_tiles_that_are_not_square_are_refused() -> None:
    """The graph's tiles have one side."""
    marks = SimpleNamespace(convert_ids_to_tokens=str)
    shown = SimpleNamespace(to_dict=lambda: {"size": {"height": 32, "width": 48}})
    processor = SimpleNamespace(tokenizer=marks, image_processor=shown)
    with pytest.raises(InputError, match="one square size"):
        made("tiles", processor, {"model_type": "internvl", "vision_config": VISION})
