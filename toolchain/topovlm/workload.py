"""What one latency figure is for: pictures in, prompt tokens in, tokens out."""

from __future__ import annotations

from dataclasses import dataclass

from topovlm.errors import InputError, explain

MOST_FRAMES = 768  # of one video: Qwen2-VL's bound


@dataclass(frozen=True)
class Workload:
    """One request. `prompt_tokens` counts text only, template included; visual tokens come on top.

    `images` pictures of `image_height` x `image_width` px, or `video_frames` frames of that size.
    `visual_tokens`, when set, replaces the count that the picture sizes would give.
    """

    images: int = 1
    image_height: int = 448
    image_width: int = 448
    prompt_tokens: int = 32
    new_tokens: int = 1
    batch: int = 1
    video_frames: int = 0
    visual_tokens: int | None = None

    def __post_init__(self) -> None:
        rules = {
            "images": 0,
            "image_height": 1,
            "image_width": 1,
            "prompt_tokens": 0,
            "new_tokens": 1,
            "batch": 1,
            "video_frames": 0,
        }
        for field, least in rules.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(explain(field, value, f"must be a whole number of at least {least}"))
        if self.visual_tokens is not None and self.visual_tokens < 0:
            raise InputError(explain("visual_tokens", self.visual_tokens, "must not be negative"))
