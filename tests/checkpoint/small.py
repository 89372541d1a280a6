"""Small random models of every family, with layers of either kind; neither processors nor pictures."""

from __future__ import annotations

from typing import Any

from topovlm.families.catalogue import FAMILIES

LAYERS = 6
_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_ROWS = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
_WINDOW = {"sliding_window": 4, "use_sliding_window": True}
_BEHIND = {**_WINDOW, "max_window_layers": 3}
# What makes the layers of a decoder differ from each other, or their positions rows.
_MORE: dict[str, dict[str, Any]] = {
    "qwen2": _BEHIND,
    "qwen3": _BEHIND,
    "smollm3": {**_WINDOW, "no_rope_layer_interval": 2},
    "gemma2": {"sliding_window": 4},
    "gemma3_text": {"sliding_window": 4, "sliding_window_pattern": 3},
    "mistral": {"sliding_window": 4},
    "qwen2_vl_text": {**_ROWS, **_BEHIND},
    "qwen2_5_vl_text": {**_ROWS, **_BEHIND},
    "qwen3_vl_text": _ROWS,
    "qwen3_vl_moe_text": {
        **_ROWS,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "decoder_sparse_step": 2,
    },
    "paddleocr_vl_text": _ROWS,
    "glm4v_text": _ROWS,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "depth": 2,
    "num_attention_heads": 2,
    "num_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "out_hidden_size": 16,
    "projection_dim": 16,
    "vocab_size": 12,
    "num_position_embeddings": 4,
    "deepstack_visual_indexes": [0, 1],
    "fullatt_block_indexes": [1],
}
_TOP = {
    "hidden_size": 16,
    "vocab_size": 64,
    "projection_dim": 16,
    "image_token_id": 60,
    "image_token_index": 60,
    "tie_word_embeddings": False,
    "visual_indicator_token_ids": [50, 51, 52, 53, 54],
    "vision_feature_layers": [-2, 1],
}


def small_model(name: str, decoder: str) -> Any:
    """The family's model around that decoder, its weights drawn so that every layer matters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    family = FAMILIES[name]
    text = {**_TEXT, **_MORE.get(decoder, {})}
    auto: Any = AutoModelForCausalLM if family.text_only else AutoModelForImageTextToText
    if family.text_only:
        config: Any = AutoConfig.for_model(name, **text)
    else:
        tower, vision = family.default_tower, dict(_VISION)
        if tower == "timm_wrapper":  # the package timm may be absent; the decoder does not mind
            tower, vision["model_args"] = "siglip_vision_model", {"embed_dim": 16}
        if tower == "qwen2_vl_vision":
            vision["embed_dim"] = 16
        parts = {"text_config": {"model_type": decoder, **text}}
        config = AutoConfig.for_model(name, **parts, vision_config={"model_type": tower, **vision}, **_TOP)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = auto.from_config(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model
