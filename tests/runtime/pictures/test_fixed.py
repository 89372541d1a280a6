"""Whole pictures: against LLaVA's and PaliGemma's processors with CLIP, SigLIP and LLaVA image processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.pictures.oracle import made, picture, pictures, same_pixels, same_prompt, tokenizer
from topovlm.errors import InputError

CLIP = {"model_type": "clip_vision_model", "patch_size": 8}
SIGLIP = {"model_type": "siglip_vision_model", "patch_size": 8}


def _images(kind: str, **settings: Any) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    kinds = {
        "clip": CLIPImageProcessorPil,
        "siglip": SiglipImageProcessorPil,
        "llava": LlavaImageProcessorPil,
    }
    return kinds[kind](**settings)


def _llava(images: Any, **settings: Any) -> Any:
    from transformers import LlavaProcessor

    return LlavaProcessor(images, tokenizer(["<image>"]), patch_size=8, **settings)


FULL = {"vision_feature_select_strategy": "full"}
SQUARE = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
CASES = {
    "clip": ("llava", CLIP, _images("clip", **SQUARE), {}),
    "clip, every token": (
        "llava",
        CLIP,
        _images("clip", **SQUARE),
        FULL,
    ),
    "siglip": (
        "llava",
        SIGLIP,
        _images("siglip", size={"height": 24, "width": 40}, do_convert_rgb=True),
        FULL,
    ),
    "vipllava": ("vipllava", CLIP, _images("clip", **SQUARE), {}),
    "padded to a square": ("llava", CLIP, _images("llava", do_pad=True, **SQUARE), {}),
    "padding without effect": ("llava", CLIP, _images("clip", do_pad=True, **SQUARE), {}),
    "fast_vlm": (
        "fast_vlm",
        {"model_type": "timm_wrapper", "patch_size": 8},
        _images("llava", do_pad=True, image_mean=[0, 0, 0], image_std=[1, 1, 1], **SQUARE),
        FULL,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fifty_pictures_equal_the_processor(name: str) -> None:
    """Pixels and token ids of pictures of any size and mode."""
    model_type, vision, images, settings = CASES[name]
    select = settings.get("vision_feature_select_strategy", "default")
    extra = int(vision["model_type"] == "clip_vision_model")
    processor = _llava(images, vision_feature_select_strategy=select, num_additional_image_tokens=extra)
    config = {"model_type": model_type, "vision_config": vision, **settings}
    config["image_token_index"] = processor.image_token_id
    own = made("fixed", processor, config, patch_size=8)
    assert own.joins
    for image in pictures():
        want = processor(images=image, text="a <image> b")
        seen = own.see(image)
        same_pixels(seen.feeds["pixel_values"], want["pixel_values"])
        same_prompt(own, [seen], processor, "a <image> b", want["input_ids"])


PROMPTS = ("<image>caption en", "<image><image>compare", "x<image> y <image>z", "words")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_paligemma_rebuilds_the_prompt(prompt: str) -> None:
    """Pictures, the beginning of the text, the text and a newline; with and without placeholders."""
    from transformers import PaliGemmaProcessor

    images = _images("siglip", size={"height": 32, "width": 32}, do_convert_rgb=True)
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer(["<image>"], image_token="<image>"))
    config = {
        "model_type": "paligemma",
        "vision_config": SIGLIP,
        "image_token_index": processor.image_token_id,
        "bos_token_id": processor.tokenizer.bos_token_id,
    }
    own = made("fixed", processor, config)
    count = max(1, prompt.count("<image>"))
    for start in range(0, 50, 10):
        chosen = pictures()[start : start + count]
        want = processor(images=[chosen], text=[prompt])
        seens = own.see_all(chosen)
        same_pixels(np.concatenate([seen.feeds["pixel_values"] for seen in seens]), want["pixel_values"])
        same_prompt(own, seens, processor, prompt, want["input_ids"])


def test_pictures_of_a_prompt_need_one_shape() -> None:
    """The shorter edge alone leaves them different: they cannot go through the graph at once."""
    images = _images("clip", size={"shortest_edge": 16}, do_center_crop=False)
    processor = _llava(images, vision_feature_select_strategy="default")
    config = {"model_type": "llava", "vision_config": CLIP, "image_token_index": processor.image_token_id}
    own = made("fixed", processor, config)
    assert [seen.tokens for seen in own.see_all([picture("RGB", 9, 9), picture("L", 20, 20)])] == [4, 4]
    with pytest.raises(InputError, match="one shape"):
        own.see_all([picture("RGB", 9, 9), picture("RGB", 9, 18)])


def test_what_does_not_fit_is_refused() -> None:
    """Steps of other strategies, an unknown strategy, a prompt with another number of placeholders."""
    processor = _llava(_images("clip", **SQUARE), vision_feature_select_strategy="default")
    config = {"model_type": "llava", "vision_config": CLIP, "image_token_index": processor.image_token_id}
    own = made("fixed", processor, config)
    seen = own.see(picture("RGB", 5, 5))
    with pytest.raises(InputError, match="once per picture"):
        own.whole("no picture", [seen])
    with pytest.raises(InputError, match="Known: anyres, clip, fixed"):
        made("folded", processor, config)
    processor.image_processor.image_grid_pinpoints = [[1, 1]]
    with pytest.raises(InputError, match="image_grid_pinpoints"):
        made("fixed", processor, config)
