"""Lists over layers that a configuration may leave out: what transformers derives in their place.

A decoder's record names one function for each list. They take (decoder's fields, defaults filled in; number
of layers) and give one entry per layer, or the indices of the layers that are meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from topovlm.families.configs import ModelConfig
from topovlm.families.family import Decoder, named

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_list(decoder: Decoder, text: ModelConfig, layers: int, name: str) -> list[Any] | None:
    """What the list `name` says of `layers` layers, stated or implied; None where it is neither."""
    if name not in decoder.index_lists and isinstance(text.get(name), list):
        return list(text[name])
    return implied_list(decoder, text, layers, name)


def implied_list(decoder: Decoder, text: ModelConfig, layers: int, name: str) -> list[Any] | None:
    """What follows from the other fields; None where the decoder's record names no function."""
    if name not in decoder.implied:
        return None
    derive: Callable[[ModelConfig, int], list[Any]] = named(decoder.implied[name], __name__)
    return derive({**decoder.defaults, **text}, layers)


def _every(text: ModelConfig, field: str) -> int:
    """A modulus. 0 and what is no number mean: never."""
    value = text.get(field)
    return value if isinstance(value, int) and value > 0 else 0


def _is_nth(layer: int, every: int) -> bool:
    return bool(every) and (layer + 1) % every == 0


def window_behind(text: ModelConfig, layers: int) -> list[str]:
    """Qwen: the layers from `max_window_layers` on see a window, where one is asked for."""
    first = text.get("max_window_layers")
    on = text.get("use_sliding_window") and text.get("sliding_window") is not None
    start = first if on and isinstance(first, int) else layers
    return [FULL if layer < start else SLIDING for layer in range(layers)]


def full_every_second(text: ModelConfig, layers: int) -> list[str]:
    """Gemma 2: they take turns, beginning with a window."""
    return [FULL if _is_nth(layer, 2) else SLIDING for layer in range(layers)]


def full_every_nth(text: ModelConfig, layers: int) -> list[str]:
    """Gemma 3: every n-th layer sees everything."""
    every = _every(text, "sliding_window_pattern")
    return [FULL if _is_nth(layer, every) else SLIDING for layer in range(layers)]


def no_rope_every_nth(text: ModelConfig, layers: int) -> list[int]:
    """SmolLM3: 0 for every n-th layer, which has no rotary positions, 1 for the others."""
    every = _every(text, "no_rope_layer_interval")
    return [int(not _is_nth(layer, every)) for layer in range(layers)]


def window_without_rope(text: ModelConfig, layers: int) -> list[str]:
    """SmolLM3: the layers without rotary positions see a window, where one is asked for."""
    stated = text.get("no_rope_layers")
    rope = stated if isinstance(stated, list) else no_rope_every_nth(text, layers)
    on = text.get("use_sliding_window") and text.get("sliding_window") is not None
    return [SLIDING if on and not has else FULL for has in rope[:layers]]


def dense_between(text: ModelConfig, layers: int) -> list[int]:
    """Qwen's mixtures: layers without experts are those listed, and all but every n-th."""
    stated, every = text.get("mlp_only_layers"), _every(text, "decoder_sparse_step")
    listed = stated if isinstance(stated, list) else []
    return [layer for layer in range(layers) if layer in listed or not _is_nth(layer, every)]
