"""What is asked of a config.json without knowing its family. Read as JSON; transformers fills in nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from topovlm.errors import InputError, explain

# The content of a config.json (or of an image processor's file): other people's format, so any JSON.
ModelConfig: TypeAlias = Mapping[str, Any]

TEXT_KEYS = ("text_config", "llm_config")
VISION_KEY = "vision_config"


def text_part(config: ModelConfig) -> ModelConfig:
    """The decoder's part; older configurations keep it at the top."""
    for key in TEXT_KEYS:
        part = config.get(key)
        if isinstance(part, Mapping):
            return part
    return config


def image_token_id(config: ModelConfig, defaults: ModelConfig | None = None) -> int | None:
    """The token that stands for a picture, under its new or its old name; None where nothing states it.

    `defaults`: those of the family.
    """
    return _token(("image_token_id", "image_token_index"), config, defaults or {})


def video_token_id(config: ModelConfig, defaults: ModelConfig | None = None) -> int | None:
    """As `image_token_id`, of a video."""
    return _token(("video_token_id", "video_token_index"), config, defaults or {})


def _token(names: tuple[str, ...], config: ModelConfig, defaults: ModelConfig) -> int | None:
    found = ((name, held.get(name)) for held in (config, defaults) for name in names)
    name, value = next(((name, value) for name, value in found if value is not None), ("", None))
    return None if value is None else _whole(value, name)


def context_tokens(config: ModelConfig) -> int | None:
    """Most tokens that the decoder's positions cover, where the configuration tells."""
    value = text_part(config).get("max_position_embeddings")
    return _whole(value, "max_position_embeddings") if value else None


def _whole(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(explain(f"config.json: {field}", value, "must be a whole number"))
    return value
