"""Visual tokens: against the rules of the transformers image processors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from topovlm.errors import InputError
from topovlm.families.canvases import smart_resize
from topovlm.families.known_models import known_model
from topovlm.families.vision import vision_flop, vision_work, visual_tokens
from topovlm.workload import Workload

SIZES = [(336, 336), (480, 640), (1080, 1920), (1500, 300), (97, 1203), (700, 701), (2000, 3000), (1, 200)]


def _tokens(model: str, height: int, width: int) -> int:
    return visual_tokens(known_model(model).shape(), Workload(image_height=height, image_width=width))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_qwen_resizes_like_its_processor(height: int, width: int) -> None:
    """Same canvas as transformers' smart_resize, for both pixel bounds."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as theirs

    for factor, low, high in ((28, 3136, 12845056), (32, 65536, 16777216), (28, 3136, 50176)):
        assert smart_resize(height, width, factor, low, high) == theirs(height, width, factor, low, high)


@pytest.mark.parametrize(("height", "width"), [(1, 201), (999_999, 1)])
def test_qwen_refuses_a_strip_like_its_processor(height: int, width: int) -> None:
    """A side more than 200 times the other has no canvas."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as theirs

    with pytest.raises(ValueError, match="aspect ratio"):
        theirs(height, width, 28, 3136, 12845056)
    with pytest.raises(InputError, match=f"{height}x{width}.*200") as caught:
        _tokens("qwen3-vl-2b", height, width)
    assert caught.value.field == "image_size"


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_llava_next_counts_like_its_processor(height: int, width: int) -> None:
    """Base tile, unpadded canvas and one newline per row."""
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

    pinpoints = known_model("llava-next-8b").config["image_grid_pinpoints"]
    processor = SimpleNamespace(
        patch_size=14,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        image_processor=SimpleNamespace(image_grid_pinpoints=pinpoints),
    )
    processor._get_unpadded_features = lambda *args: LlavaNextProcessor._get_unpadded_features(
        processor, *args
    )
    expected = LlavaNextProcessor._get_number_of_features(processor, height, width, 336, 336)
    assert _tokens("llava-next-8b", height, width) == expected - 1  # the class token is dropped


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_llava_onevision_counts_like_its_processor(height: int, width: int) -> None:
    """At most nine tiles' worth of tokens after interpolation."""
    from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

    sides = [384 * step for step in range(1, 7)]
    processor = SimpleNamespace(
        num_image_tokens=729,
        vision_aspect_ratio="anyres_max_9",
        vision_feature_select_strategy="full",
        image_processor=SimpleNamespace(image_grid_pinpoints=[[h, w] for h in sides for w in sides]),
    )
    processor._get_unpadded_features = lambda *args: LlavaOnevisionProcessor._get_unpadded_features(
        processor, *args
    )
    expected = LlavaOnevisionProcessor._get_number_of_features(processor, height, width, 384, 384)
    assert _tokens("llava-onevision-7b", height, width) == expected


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_internvl_tiles_like_its_processor(height: int, width: int) -> None:
    """256 tokens for each tile of the best canvas, and a thumbnail when there is more than one."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    columns, rows = get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
    tiles = columns * rows + (columns * rows > 1)
    assert _tokens("internvl3-8b", height, width) == 256 * tiles


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("model", "per_tile", "tile"), [("smolvlm2-500m", 64, 512), ("smolvlm2-2.2b", 81, 384)]
)
def test_smolvlm_splits_like_its_processor(
    model: str, per_tile: int, tile: int, height: int, width: int
) -> None:
    """Rows x columns of tiles after the resize to the longest edge, and a global one."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    preprocessor = known_model(model).preprocessor
    assert preprocessor
    processor = SmolVLMImageProcessorPil(
        size=preprocessor["size"], max_image_size={"longest_edge": tile}, do_image_splitting=True
    )
    tiles, _, _ = processor.get_number_of_image_patches(height, width)
    assert _tokens(model, height, width) == per_tile * tiles


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("paligemma2-3b", 256), ("gemma3-4b", 256), ("smolvlm2-500m", 64 * 17), ("smolvlm2-2.2b", 81 * 17)],
)
def test_fixed_grids(model: str, tokens: int) -> None:
    """Published tokens per image: fixed grids, and 4 x 4 tiles plus a global one for a square picture."""
    assert _tokens(model, 1024, 1024) == tokens


def test_operations_of_the_tower_match_published_counts() -> None:
    """Qwen3-VL at 265 visual tokens: 804, 808.5 and 1096.3 GFLOP are published."""
    for model, gflop in (("qwen3-vl-2b", 804.0), ("qwen3-vl-4b", 808.5), ("qwen3-vl-8b", 1096.3)):
        shape = known_model(model).shape()
        assert shape.vision is not None
        found = vision_flop(shape.vision, vision_work(shape, Workload(visual_tokens=265)))
        assert found / 1e9 == pytest.approx(gflop, rel=0.005)


def test_window_attention_costs_less_than_full() -> None:
    """Qwen2.5-VL attends within windows in 28 of 32 layers."""
    shape = known_model("qwen2.5-vl-7b").shape()
    assert shape.vision is not None
    assert (shape.vision.window_patches, shape.vision.windowed_layers) == (64, 28)


def test_several_images_and_frames_add_up() -> None:
    """Images multiply; Qwen merges two frames into one step; SmolVLM takes one tile per frame."""
    shape = known_model("qwen3-vl-2b").shape()
    one = visual_tokens(shape, Workload(image_height=448, image_width=448))
    assert visual_tokens(shape, Workload(images=3, image_height=448, image_width=448)) == 3 * one
    frames = Workload(images=0, video_frames=8, image_height=448, image_width=448)
    assert visual_tokens(shape, frames) == 4 * one
    assert visual_tokens(known_model("smolvlm2-500m").shape(), frames) == 8 * 64


def test_onevision_sees_several_pictures_as_a_tile_each() -> None:
    """As its processor does with the pictures of one conversation: a grid and a newline."""
    shape = known_model("llava-onevision-7b").shape()
    assert visual_tokens(shape, Workload(images=3, image_height=900, image_width=2000)) == 3 * (729 + 1)
    assert visual_tokens(shape, Workload(images=1, image_height=900, image_width=2000)) > 3 * (729 + 1)


def test_no_image_is_no_work() -> None:
    """Text alone costs the tower nothing."""
    work = vision_work(known_model("qwen3-vl-2b").shape(), Workload(images=0))
    assert (work.sequences, work.tokens) == (0, 0)


@pytest.mark.parametrize("field", ["images", "image_height", "prompt_tokens", "new_tokens", "batch"])
def test_an_impossible_workload_is_refused(field: str) -> None:
    """The message names the field and its value."""
    with pytest.raises(InputError, match=f"{field} = -1"):
        Workload(**{field: -1})
