"""Pictures on a canvas of tiles: against the processors and the packing of LLaVA-NeXT and LLaVA-OneVision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.pictures.oracle import made, picture, pictures, same_pixels, same_prompt, tokenizer
from topovlm.errors import InputError
from topovlm.runtime.pictures.seen import Seen

SIDE, GRID, WIDTH = 32, 4, 3
NEXT = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
ONE = [[32 * rows, 32 * columns] for rows in range(1, 7) for columns in range(1, 7)]
PROMPT = "a <image> b"


def _next() -> Any:
    from transformers import LlavaNextProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=NEXT,
    )
    return LlavaNextProcessor(
        images,
        tokenizer(["<image>"]),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _onevision(aspect: str = "anyres_max_9") -> Any:
    from transformers import LlavaOnevisionProcessor
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    processor = object.__new__(LlavaOnevisionProcessor)  # its video half needs torchvision
    processor.image_processor = LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=ONE
    )
    processor.tokenizer = tokenizer(["<image>"])
    processor.image_token = "<image>"
    processor.image_token_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    processor.num_image_tokens = GRID**2
    processor.vision_aspect_ratio = aspect
    processor.vision_feature_select_strategy = "full"
    return processor


def _config(family: str, processor: Any, **more: Any) -> dict[str, Any]:
    return {
        "model_type": family,
        "vision_config": {"image_size": SIDE, "patch_size": 8},
        "image_token_index": processor.image_token_id,
        **more,
    }


def _packed(seen: Seen, features: Any, newline: Any) -> Any:
    """What the graph computes from the tiles' features `[tiles, grid * grid, width]`."""
    import torch

    rows = torch.cat([features.flatten(0, 1), newline[None]])
    weights = torch.tensor(seen.feeds["feature_weight"])
    return (rows[torch.tensor(seen.feeds["feature_index"])] * weights[..., None]).sum(0)


def _model(pinpoints: list[list[int]]) -> Any:
    vision = SimpleNamespace(image_size=SIDE, patch_size=8)
    return SimpleNamespace(config=SimpleNamespace(vision_config=vision, image_grid_pinpoints=pinpoints))


def test_fifty_pictures_equal_llava_next() -> None:
    """Tiles and token ids of pictures of any size and mode; features packed as the model packs them."""
    import torch
    from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

    processor = _next()
    own = made("anyres", processor, _config("llava_next", processor))
    newline = torch.randn(WIDTH)
    for image in pictures():
        want = processor(images=image, text=PROMPT)
        seen = own.see(image)
        tiles = np.asarray(want["pixel_values"])[0]
        same_pixels(seen.feeds["pixel_values"], tiles)
        same_prompt(own, [seen], processor, PROMPT, want["input_ids"])
        features = torch.randn(len(tiles), GRID**2, WIDTH)
        sizes = torch.tensor([[image.height, image.width]])
        packed, _ = LlavaNextModel.pack_image_features(_model(NEXT), [features], sizes, "default", newline)
        assert torch.equal(_packed(seen, features, newline), packed[0])
        assert seen.feeds["feature_index"].shape == (1, seen.tokens)
        assert seen.feeds["feature_index"].dtype == np.int64
        assert seen.feeds["feature_weight"].dtype == np.float32


@pytest.mark.parametrize("aspect", ["anyres_max_9", "anyres_max_4"])
def test_fifty_pictures_equal_onevision(aspect: str) -> None:
    """The same, with the bilinear shrink of a large canvas to so many tiles' worth of tokens."""
    import torch
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

    processor = _onevision(aspect)
    config = _config("llava_onevision", processor, vision_aspect_ratio=aspect)
    own = made("anyres", processor, config)
    newline, shrunk = torch.randn(WIDTH), 0
    for image in [*pictures(), picture("RGB", 192, 191), picture("L", 150, 180)]:
        want = processor.image_processor([image])
        seen = own.see(image)
        tiles = np.asarray(want["pixel_values"])[0]
        same_pixels(seen.feeds["pixel_values"], tiles)
        text = processor.replace_image_token(want, 0)
        ids = processor.tokenizer(PROMPT.replace("<image>", text))["input_ids"]
        same_prompt(own, [seen], processor, PROMPT, ids)
        features = torch.randn(len(tiles), GRID**2, WIDTH)
        sizes = torch.tensor([[image.height, image.width]])
        packed, _ = LlavaOnevisionModel.pack_image_features(_model(ONE), [features], sizes, newline, aspect)
        torch.testing.assert_close(_packed(seen, features, newline), packed[0], rtol=0, atol=2e-5)
        assert seen.feeds["feature_index"].shape == (4, seen.tokens)
        shrunk += bool((np.asarray(seen.feeds["feature_weight"])[1:] > 0).any())
    assert shrunk >= 2


def test_several_pictures_equal_onevision() -> None:
    """In one prompt they are a tile each, padded with the mean's colour, and a newline."""
    import torch
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

    processor = _onevision()
    own = made("anyres", processor, _config("llava_onevision", processor))
    prompt = "<image> and <image><image>?"
    newline = torch.randn(WIDTH)
    for start in range(0, 48, 3):
        chosen = pictures()[start : start + 3]
        want = processor.image_processor([chosen])
        seens = own.see_all(chosen)
        text = prompt
        for index, seen in enumerate(seens):
            same_pixels(seen.feeds["pixel_values"], np.asarray(want["pixel_values"][index]))
            text = text.replace("<image>", processor.replace_image_token(want, index).replace("<", "{"), 1)
            features = torch.randn(1, GRID**2, WIDTH)
            packed, _ = LlavaOnevisionModel.pack_image_features(_model(ONE), [features], None, newline)
            assert torch.equal(_packed(seen, features, newline), packed[0])
        same_prompt(own, seens, processor, prompt, processor.tokenizer(text.replace("{", "<"))["input_ids"])
    alone = own.see_all(chosen[:1])[0]
    assert np.array_equal(alone.feeds["pixel_values"], own.see(chosen[0]).feeds["pixel_values"])


def test_canvases_of_other_tiles_are_refused() -> None:
    """A canvas that is not whole tiles, a crop that is no tile."""
    processor = _next()
    processor.image_processor.image_grid_pinpoints = [[32, 48]]
    with pytest.raises(InputError, match=r"image_grid_pinpoints.*48"):
        made("anyres", processor, _config("llava_next", processor))
    processor = _next()
    processor.image_processor.crop_size = {"height": 24, "width": 24}
    with pytest.raises(InputError, match=r"crop_size.*32 px"):
        made("anyres", processor, _config("llava_next", processor))
