"""Pictures at their own size: against the processors of Qwen-VL, GLM-4V, PaddleOCR-VL, and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.pictures.oracle import made, picture, pictures, same_pixels, same_prompt, tokenizer
from topovlm.errors import InputError
from topovlm.runtime.pictures import strategy
from topovlm.runtime.pictures.grids import Taps, interpolation, positions

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v", "paddleocr_vl")
MARK = "<|image_pad|>"
PROMPT = f"a <s>{MARK}</s> b"


def _processor(family: str) -> Any:
    from transformers import (
        Glm4vProcessor,
        PaddleOCRVLProcessor,
        Qwen2_5_VLProcessor,
        Qwen2VLProcessor,
        Qwen3VLProcessor,
    )
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
    from transformers.models.paddleocr_vl.image_processing_pil_paddleocr_vl import (
        PaddleOCRVLImageProcessorPil,
    )
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    images, whole = {
        "qwen2_vl": (Qwen2VLImageProcessorPil, Qwen2VLProcessor),
        "qwen2_5_vl": (Qwen2VLImageProcessorPil, Qwen2_5_VLProcessor),
        "qwen3_vl": (Qwen2VLImageProcessorPil, Qwen3VLProcessor),
        "glm4v": (Glm4vImageProcessorPil, Glm4vProcessor),
        "paddleocr_vl": (PaddleOCRVLImageProcessorPil, PaddleOCRVLProcessor),
    }[family]
    bounds = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    return _joined(whole, images(size=bounds, patch_size=8, merge_size=2))


def _joined(whole: Any, images: Any) -> Any:
    """A processor without the video half, which needs torchvision."""
    processor = object.__new__(whole)
    processor.image_processor = images
    processor.tokenizer = tokenizer([MARK, "<s>", "</s>"])
    processor.image_token = MARK
    processor.image_token_id = processor.tokenizer.convert_tokens_to_ids(MARK)
    return processor


def _config(family: str, processor: Any) -> dict[str, Any]:
    vision: dict[str, Any] = {"patch_size": 8, "spatial_merge_size": 2, "window_size": 48}
    vision |= {"num_position_embeddings": 36} if family == "qwen3_vl" else {"image_size": 56}
    return {"model_type": family, "vision_config": vision, "image_token_id": processor.image_token_id}


@pytest.mark.parametrize("family", FAMILIES)
def test_fifty_pictures_equal_the_processor(family: str) -> None:
    """Patches, their grid and token ids of pictures of any size and mode."""
    processor = _processor(family)
    own = made("native", processor, _config(family, processor))
    assert not own.joins
    for image in pictures(widest=190):
        want = processor.image_processor(image)
        seen = own.see(image)
        patches = np.asarray(want["pixel_values"])
        same_pixels(seen.feeds["pixel_values"], patches.reshape(len(patches), -1))
        frames, rows, columns = np.asarray(want["image_grid_thw"])[0].tolist()
        assert seen.grid == (frames, rows // 2, columns // 2)
        text = processor.replace_image_token({"image_grid_thw": np.asarray(want["image_grid_thw"])}, 0)
        ids = processor.tokenizer(PROMPT.replace(MARK, text))["input_ids"]
        same_prompt(own, [seen], processor, PROMPT, ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tower_is_told_what_transformers_computes(family: str) -> None:
    """Positions, and taps into the table, equal those of vision_utils with the model's own settings."""
    import torch
    from transformers import vision_utils

    processor = _processor(family)
    own = made("native", processor, _config(family, processor))
    for image in pictures(widest=190)[:20]:
        feeds = own.see(image).feeds
        grid = torch.tensor(np.asarray(processor.image_processor(image)["image_grid_thw"]))
        block = 1 if family == "paddleocr_vl" else 2
        want = vision_utils.get_vision_position_ids(grid, block)
        assert np.array_equal(feeds["position_ids"], want.numpy())
        assert feeds["position_ids"].dtype == np.int64
        if family in ("qwen2_vl", "qwen2_5_vl"):
            assert "interp_indices" not in feeds
            continue
        side, mode, align = {
            "qwen3_vl": (6, "bilinear", True),
            "glm4v": (7, "bicubic", False),
            "paddleocr_vl": (7, "bilinear", False),
        }[family]
        indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            grid, side, mode=mode, align_corners=align, spatial_merge_size=block
        )
        assert np.array_equal(feeds["interp_indices"], indices.numpy())
        np.testing.assert_allclose(feeds["interp_weights"], weights.numpy(), rtol=0, atol=1e-6)
        assert feeds["interp_weights"].dtype == np.float32


@pytest.mark.parametrize(("mode", "align"), [("bilinear", True), ("bilinear", False), ("bicubic", False)])
def test_taps_resample_like_torch(mode: Any, align: bool) -> None:
    """The weighted entries are those of F.interpolate."""
    import torch

    table = torch.randn(7, 7, 5)
    for rows, columns in ((1, 9), (7, 7), (4, 12), (20, 2)):
        indices, weights = interpolation(positions(rows, columns), (rows, columns), 7, Taps(mode, align))
        got = (table.reshape(49, 5).numpy()[indices] * weights[..., None]).sum(1)
        want = torch.nn.functional.interpolate(
            table.permute(2, 0, 1)[None], (rows, columns), mode=mode, align_corners=align
        )[0]
        np.testing.assert_allclose(got, want.permute(1, 2, 0).reshape(-1, 5), atol=2e-5)


def test_glm_taps_are_those_of_its_sampling() -> None:
    """GLM-4V samples its table with grid_sample: the same entries and weights."""
    import torch
    from transformers.models.glm4v.configuration_glm4v import Glm4vVisionConfig
    from transformers.models.glm4v.modeling_glm4v import Glm4vVisionEmbeddings

    config = Glm4vVisionConfig(hidden_size=8, image_size=56, patch_size=8, num_heads=1)
    module = Glm4vVisionEmbeddings(config)
    table = torch.randn(49, 8)
    module.position_embedding.weight.data = table
    places = positions(10, 4, 2)
    indices, weights = interpolation(places, (10, 4), 7, Taps("bicubic", align_corners=False))
    got = (table.numpy()[indices] * weights[..., None]).sum(1)
    rows, columns = torch.tensor(places).T
    want = module(torch.zeros(40, 8), [40], torch.tensor([[1, 10, 4]]), rows, columns)
    np.testing.assert_allclose(got, want.detach().numpy(), atol=2e-5)


def test_a_strip_is_refused_as_the_processors_do() -> None:
    """A side more than 200 times the other."""
    strip = picture("RGB", 2002, 10)
    for family in FAMILIES:
        processor = _processor(family)
        own = made("native", processor, _config(family, processor))
        if family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
            with pytest.raises(ValueError, match="aspect ratio"):
                processor.image_processor(strip)
            with pytest.raises(InputError, match=r"10x2002.*200"):
                own.see(strip)
        with pytest.raises(ValueError, match="aspect ratio"):
            processor.image_processor(picture("RGB", 1, 3999))
        with pytest.raises(InputError, match=r"3999x1.*200"):
            own.see(picture("RGB", 1, 3999))


def test_without_a_resize_pictures_are_whole_tokens() -> None:
    """A picture that cannot be cut into patches is refused by its size; one that can is taken as it is."""
    processor = _processor("qwen2_vl")
    processor.image_processor.do_resize = False
    own = made("native", processor, _config("qwen2_vl", processor))
    unit = own.patch * own.merge
    assert own.see(picture("RGB", 3 * unit, 2 * unit)).grid == (1, 2, 3)
    with pytest.raises(InputError, match=rf"{2 * unit + 1}x{3 * unit}.*multiples of {unit} px.*do_resize"):
        own.see(picture("RGB", 3 * unit, 2 * unit + 1))


@pytest.mark.parametrize("family", ["qwen2_vl", "glm4v", "paddleocr_vl"])
def test_bounds_that_no_file_states_are_those_of_transformers(family: str) -> None:
    """A file without sizes: the record's are what the image processor takes by itself."""
    blank = type(_processor(family).image_processor)()
    config = _config(family, _processor(family))
    files = {"images": {}, "processor": {}, "config": config, "token": lambda number: f"<{number}>"}
    own: Any = strategy("native", **files)
    assert own.least == blank.size["shortest_edge"]
    assert own.most == blank.size["longest_edge"]
    assert own.frames == blank.temporal_patch_size
