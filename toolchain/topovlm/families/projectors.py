"""Projectors between tower and decoder: weights that are applied to each visual token.

Each takes (tower's configuration, width of the features that make one token, decoder's width).
"""

from __future__ import annotations

from topovlm.families.configs import ModelConfig


def linear(vision: ModelConfig, features: int, text: int) -> int:
    """One matrix."""
    return features * text


def two_linear(vision: ModelConfig, features: int, text: int) -> int:
    """Two matrices with an activation between them."""
    return features * text + text**2


def merger(vision: ModelConfig, features: int, text: int) -> int:
    """Qwen-VL: two matrices at the width of the merged patches, once more for each deepstack layer."""
    # Qwen2-VL calls the tower's width `embed_dim`; its merger always ends at the decoder's width.
    out = text if "embed_dim" in vision else int(vision.get("out_hidden_size") or text)
    return (features * features + features * out) * (1 + len(vision.get("deepstack_visual_indexes") or ()))
