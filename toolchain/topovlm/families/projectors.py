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


def gated_merger(vision: ModelConfig, features: int, text: int) -> int:
    """GLM-4V: a convolution over the merged patches, a matrix, and a gated MLP of the tower's width."""
    out = int(vision.get("out_hidden_size") or text)
    return features * out + out * out + 3 * out * int(vision.get("intermediate_size") or 0)


def merged_two_linear(vision: ModelConfig, features: int, text: int) -> int:
    """Mistral 3: merged patches back to the tower's width, then as LLaVA."""
    width = int(vision.get("hidden_size") or features)
    return features * width + width * text + text**2


def averaged_two_linear(vision: ModelConfig, features: int, text: int) -> int:
    """VideoLLaMA3: as LLaVA, behind the mean of the patches of a token."""
    return int(vision.get("hidden_size") or features) * text + text**2


def pooled_two_linear(vision: ModelConfig, features: int, text: int) -> int:
    """Perception-LM: as LLaVA for every patch, of which several are averaged to one token."""
    width = int(vision.get("embed_dim") or vision.get("hidden_size") or features)
    return (features // width) * (width * text + text**2)


def visual_words(vision: ModelConfig, features: int, text: int) -> int:
    """Ovis 2: probabilities of the tower's own words, and the mean of their embeddings."""
    words = int(vision.get("vocab_size") or 0)
    return features * words + words * text


def stage_by_patch(vision: ModelConfig, features: int, text: int) -> int:
    """VideoLLaMA2: four blocks of convolutions from the tower's width to the decoder's."""
    return _block(features, text) + features * text + 3 * _block(text, text)


def sampled_stage(vision: ModelConfig, features: int, text: int) -> int:
    """VideoLLaMA2, behind `stage_by_patch`: a convolution that joins eight, four blocks, two matrices."""
    return 8 * text**2 + 4 * _block(text, text) + 2 * text**2


def _block(inputs: int, outputs: int) -> int:
    """Two pointwise convolutions around nine weights a channel, and a gate of a quarter of what comes in."""
    return inputs * outputs + 9 * outputs + 2 * outputs * round(inputs / 4) + outputs**2
