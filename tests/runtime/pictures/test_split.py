"""Split pictures: against the processors of Idefics 3 and SmolVLM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.pictures.oracle import made, picture, pictures, same_pixels, same_prompt, tokenizer
from topovlm.errors import InputError

PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
SPECIALS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *PLACES)
PROMPT = "a <image>\n b"
VISION = {"image_size": 32, "patch_size": 8}


def _processor(**settings: Any) -> Any:
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    size = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 32}}
    images = Idefics3ImageProcessorPil(**{**size, **settings})
    return Idefics3Processor(images, tokenizer(SPECIALS), image_seq_len=4)


def _config(family: str, processor: Any) -> dict[str, Any]:
    vision = {"model_type": f"{family}_vision", **VISION}
    return {"model_type": family, "vision_config": vision, "image_token_id": processor.image_token_id}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": {"longest_edge": 100}},
        {"do_image_splitting": False},
        {"do_resize": False},
        {"resample": 2},
    ],
    ids=str,
)
def test_fifty_pictures_equal_idefics3(settings: dict[str, Any]) -> None:
    """Tiles, masks and token ids of pictures of any size and mode."""
    processor = _processor(**settings)
    own = made("split", processor, _config("idefics3", processor))
    assert own.joins
    keeps = settings.get("do_resize", True)
    for image in pictures() if keeps else [p for p in pictures() if max(p.size) <= 150]:
        want = processor(images=[[image]], text=[PROMPT])
        seen = own.see(image)
        same_pixels(seen.feeds["pixel_values"], np.asarray(want["pixel_values"])[0])
        mask = seen.feeds["pixel_attention_mask"]
        assert mask.dtype == bool
        assert np.array_equal(mask, np.asarray(want["pixel_attention_mask"])[0])
        same_prompt(own, [seen], processor, PROMPT, want["input_ids"])


def test_fifty_pictures_equal_smolvlm() -> None:
    """The same for SmolVLM, whose text is written by a function of its own."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

    images = SmolVLMImageProcessorPil(
        size={"longest_edge": 96}, max_image_size={"longest_edge": 32}, return_row_col_info=True
    )
    processor = _processor()
    processor.image_processor = images
    own = made("split", processor, _config("smolvlm", processor))
    for image in pictures():
        want = images([[image]])
        seen = own.see(image)
        same_pixels(seen.feeds["pixel_values"], np.asarray(want["pixel_values"])[0])
        rows, columns = want["rows"][0][0], want["cols"][0][0]
        assert seen.tiles == (rows, columns)
        text = get_image_prompt_string(rows, columns, 4, SPECIALS[0], "<image>", "<global-img>")
        assert own.expand(seen) == text
        assert seen.tokens == text.count("<image>")


def test_foreign_steps_are_refused() -> None:
    """A step of another family, and a size that is stated otherwise."""
    processor = _processor(size={"height": 32, "width": 32})
    with pytest.raises(InputError, match="longest_edge alone"):
        made("split", processor, _config("idefics3", processor))
    processor = _processor()
    processor.image_processor.do_pan_and_scan = True
    with pytest.raises(InputError, match="do_pan_and_scan"):
        made("split", processor, _config("idefics3", processor))
    assert (
        made("split", _processor(), _config("idefics3", processor)).see(picture("1", 1, 1)).tokens == 4 * 17
    )
