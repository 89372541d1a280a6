"""Pixtral's pictures: against its processor and its tower's positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.pictures.oracle import (
    made,
    picture,
    pictures,
    same_pixels,
    same_prompt,
    tokenizer,
    without_torchvision,
)
from topovlm.errors import InputError

PROMPT = "a [IMG] b"
MARKS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")


def _processor(size: dict[str, int], merge: int) -> Any:
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    whole = without_torchvision("pixtral.processing_pixtral").PixtralProcessor
    processor = object.__new__(whole)
    processor.image_processor = PixtralImageProcessorPil(size=size, patch_size={"height": 8, "width": 8})
    processor.tokenizer = tokenizer(MARKS)
    processor.patch_size, processor.spatial_merge_size = 8, merge
    processor.image_token, processor.image_break_token, processor.image_end_token = MARKS
    processor.image_token_id = processor.tokenizer.convert_tokens_to_ids("[IMG]")
    return processor


def _config(family: str, processor: Any, **more: Any) -> dict[str, Any]:
    vision = {"model_type": "pixtral", "patch_size": 8, "image_size": 64}
    return {
        "model_type": family,
        "vision_config": vision,
        "image_token_index": processor.image_token_id,
        **more,
    }


CASES = [
    ("llava", 1, {"longest_edge": 64}, {}),
    ("mistral3", 2, {"longest_edge": 64}, {}),
    ("mistral3", 4, {"longest_edge": 61}, {"spatial_merge_size": 4}),
    ("llava", 1, {"height": 40, "width": 64}, {}),
]


@pytest.mark.parametrize(("family", "merge", "size", "more"), CASES)
def test_fifty_pictures_equal_the_processor(
    family: str, merge: int, size: dict[str, int], more: dict[str, Any]
) -> None:
    """Pixels and token ids of pictures of any size and mode, marks between rows included.

    A strip that would scale down to nothing is refused as there.
    """
    processor = _processor(size, merge)
    own = made("pixtral", processor, _config(family, processor, **more))
    assert not own.joins
    strips = 0
    for image in pictures():
        try:
            want, (text,) = processor._process_images([image])
        except ValueError:
            strips += 1
            with pytest.raises(InputError, match="less than a pixel"):
                own.see(image)
            continue
        seen = own.see(image)
        pixels = seen.feeds["pixel_values"]
        same_pixels(pixels, want["pixel_values"])
        ids = processor.tokenizer(PROMPT.replace("[IMG]", text))["input_ids"]
        same_prompt(own, [seen], processor, PROMPT, ids)
        rows, columns = pixels.shape[2] // 8, pixels.shape[3] // 8
        places = np.stack(np.divmod(seen.feeds["position_ids"], 8), axis=1)
        assert np.array_equal(places, np.indices((rows, columns)).reshape(2, -1).T)
        assert seen.feeds["position_ids"].dtype == np.int64
    assert 0 < strips < 10


def test_more_patches_than_the_tower_has_places_are_refused() -> None:
    """The tower's table would be left; pictures that fit are taken."""
    processor = _processor({"longest_edge": 128}, 1)
    own = made("pixtral", processor, _config("llava", processor))
    assert own.see(picture("L", 64, 30)).tokens == 32
    with pytest.raises(InputError, match="8 places along a side"):
        own.see(picture("L", 100, 30))
