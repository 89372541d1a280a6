"""Two towers in one graph (Video-LLaVA): against transformers' own features of pictures and of frames."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.towers.paired import PicturesAndFrames

SIDE = 32


def _model(tower: str, **top: Any) -> Any:
    from transformers import AutoConfig

    vision = {**tracing.VISION, "model_type": tower}
    config = AutoConfig.for_model(
        "video_llava",
        vision_config={**vision, "vision_use_head": False} if tower.startswith("siglip") else vision,
        text_config={**tracing.TEXT, "model_type": "llama"},
        **top,
    )
    return tracing.build(config)


@pytest.mark.parametrize(
    ("tower", "top"),
    [
        ("clip_vision_model", {}),
        ("siglip_vision_model", {"vision_feature_layer": [-1, 1], "vision_feature_select_strategy": "full"}),
    ],
)
def test_each_kind_goes_through_its_own_tower(tower: str, top: dict[str, Any]) -> None:
    """Pictures alone, frames alone (the other input is empty), and both; a frame is no picture."""
    model = _model(tower, **top)
    graph = tracing.Graph(PicturesAndFrames(parts_of(model)))
    assert graph.axes == {
        "pixel_values": ["num_images", 3, SIDE, SIDE],
        "pixel_values_videos": ["num_frames", 3, SIDE, SIDE],
    }
    pixels = tracing.random_pixels(1, 3, 3, SIDE, SIDE)
    with torch.no_grad():
        pictures = model.get_image_features(pixels).pooler_output.flatten(0, 1)
        frames = model.model.get_video_features(pixels[None]).pooler_output.flatten(0, 1)
    none = pixels[:0]
    for shown, filmed, expected in (
        (pixels, none, pictures),
        (none, pixels, frames),
        (pixels, pixels, torch.cat([pictures, frames])),
    ):
        got = graph.run(pixel_values=shown, pixel_values_videos=filmed)
        assert tracing.relative_error(got, expected) < 1e-4
    if len(frames) == len(pictures):
        assert tracing.relative_error(frames.numpy(), pictures) > 0.05
    other = graph.run(pixel_values=none, pixel_values_videos=pixels.flip(0))
    assert tracing.relative_error(other, frames) > 0.05
