"""Gemma 3's pictures and crops: against its processor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.pictures.oracle import made, picture, pictures, same_pixels, same_prompt, tokenizer
from topovlm.errors import InputError

PROMPT = "a <start_of_image> b"


def _processor(**settings: Any) -> Any:
    from transformers import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    marks = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32}, **settings)
    return Gemma3Processor(images, tokenizer([], **marks), image_seq_length=4)


def _made(processor: Any, asked: dict[str, Any]) -> Any:
    marks = processor.tokenizer
    processor.image_token_id = marks.image_token_id
    config = {
        "model_type": "gemma3",
        "vision_config": {"image_size": 32, "patch_size": 8},
        "mm_tokens_per_image": 4,
        "image_token_index": marks.image_token_id,
        "boi_token_index": marks.boi_token_id,
        "eoi_token_index": marks.eoi_token_id,
    }
    return made("pan_and_scan", processor, config, images_kwargs=asked)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"do_pan_and_scan": True},
        {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 4},
        {
            "do_pan_and_scan": True,
            "pan_and_scan_min_crop_size": 8,
            "pan_and_scan_max_num_crops": 7,
            "pan_and_scan_min_ratio_to_activate": 2.5,
        },
    ],
    ids=str,
)
def test_fifty_pictures_equal_gemma3(asked: dict[str, Any]) -> None:
    """Pixels and token ids of pictures of any size and mode, as the call asks."""
    processor = _processor()
    own = _made(processor, asked)
    assert own.joins
    assert own.placeholder == "<start_of_image>"
    for image in pictures():
        want = processor(images=image, text=PROMPT, **asked)
        seen = own.see(image)
        same_pixels(seen.feeds["pixel_values"], want["pixel_values"])
        same_prompt(own, [seen], processor, PROMPT, want["input_ids"])


def test_the_image_processors_file_switches_nothing_on() -> None:
    """Gemma 3's processor overrules it, and so it is here."""
    processor = _processor(do_pan_and_scan=True, pan_and_scan_min_crop_size=2)
    own = _made(processor, {})
    image = pictures()[3]
    assert len(processor(images=image, text=PROMPT)["pixel_values"]) == 1
    assert own.see(image).tokens == 4


def test_an_empty_crop_is_refused() -> None:
    """Seven crops of 10 px are 2 px wide, and five of them are the whole picture."""
    asked = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 1, "pan_and_scan_max_num_crops": 7}
    with pytest.raises(InputError, match="last crop would be empty"):
        _made(_processor(), asked).see(picture("RGB", 10, 1))


def test_foreign_steps_are_refused() -> None:
    """A step of another family; pictures that keep their size."""
    with pytest.raises(InputError, match="do_center_crop"):
        _made(_processor(do_center_crop=True), {})
    with pytest.raises(InputError, match="do_resize"):
        _made(_processor(do_resize=False), {})
