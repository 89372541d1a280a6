"""Image settings: sizes spelt out as transformers does it, and what is of a wrong kind refused by field."""

from __future__ import annotations

from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.families.images import checked_images, video_settings

KINDS = ("CLIP", "Siglip", "LlavaNext", "LlavaOnevision", "Gemma3", "GotOcr2", "Idefics3", "Ovis2", "Pixtral")


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_is_what_transformers_makes_of_it(kind: str) -> None:
    """A square for some processors, the shortest edge for others; a crop is always square."""
    import transformers

    theirs: Any = getattr(transformers, f"{kind}ImageProcessorPil")(size=384, crop_size=336)
    found = checked_images(
        {"image_processor_type": f"{kind}ImageProcessor", "size": 384, "crop_size": 336}, "f.json"
    )
    assert found["size"] == {key: side for key, side in dict(theirs.size).items() if side is not None}
    assert found["crop_size"] == dict(theirs.crop_size)


WRONG: list[dict[str, Any]] = [
    {"size": [384, 384]},
    {"size": 0},
    {"size": True},
    {"size": "384"},
    {"size": {"height": 20_000, "width": 20_000}},
    {"size": {"shortest_edge": -3}},
    {"size": {"shortest_edge": 1 << 26}, "merge_size": 2},
    {"crop_size": 1e9},
    {"image_mean": [0.5] * 7},
    {"image_mean": []},
    {"image_std": [0.5, 0.5, 0]},
    {"image_std": float("nan")},
    {"image_mean": float("inf")},
    {"rescale_factor": "1/255"},
    {"resample": 99},
    {"resample": -1},
    {"do_resize": "no"},
    {"patch_size": 0},
    {"patch_size": {"height": None}},
    {"max_patches": 10**9},
    {"max_pixels": 10**12},
    {"image_grid_pinpoints": [[336, 672, 3]]},
    {"image_grid_pinpoints": 7},
    {"image_grid_pinpoints": [[336, 10**9]]},
]


@pytest.mark.parametrize("settings", WRONG, ids=str)
def test_wrong_kinds_and_bombs_are_refused_by_field(settings: dict[str, Any]) -> None:
    """Whoever reads them later: nothing of this reaches numpy, Pillow or transformers."""
    field = next(iter(settings))
    with pytest.raises(InputError, match=rf"f\.json: {field}"):
        checked_images(settings, "f.json")


def test_published_settings_pass_unchanged() -> None:
    """Areas of processors that keep a picture's own size, nulls, fields that nobody here knows."""
    qwen = {
        "size": {"shortest_edge": 65_536, "longest_edge": 16_777_216},
        "merge_size": 2,
        "patch_size": 16,
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": 0.5,
        "do_resize": None,
        "auto": {"any": "thing"},
    }
    assert checked_images(qwen, "f.json") == qwen


def test_settings_of_videos() -> None:
    """In the processor's file, else in their own; none is no error; what is wrong is named by its file."""
    nested = {"processor_config.json": {"video_processor": {"size": 8}, "image_processor": {"size": 4}}}
    own = {"video_preprocessor_config.json": {"size": {"height": 9, "width": 9}}}
    assert video_settings((own | nested).get) == {"size": {"shortest_edge": 8}}
    for other in (own, own | {"processor_config.json": {"image_processor": {"size": 4}}}):
        assert video_settings(other.get) == own["video_preprocessor_config.json"]
    assert video_settings({"processor_config.json": {}}.get) == {}
    for files, field in (
        (
            {"processor_config.json": {"video_processor": {"size": 10**9}}},
            r"config\.json: video_processor: size",
        ),
        (
            {"video_preprocessor_config.json": {"patch_size": 10**30}},
            r"video_preprocessor_config\.json: patch",
        ),
    ):
        with pytest.raises(InputError, match=field):
            video_settings(files.get)
