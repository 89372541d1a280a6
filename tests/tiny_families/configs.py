"""Configurations of the families at a width of 64: what differs from layer to layer really does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.tiny_families.original import ORIGINAL, configuration, flat
from tests.tiny_families.words import Words

Facts = dict[str, Any]
WIDTH = 64
# Short enough to matter in a prompt of 60 tokens.
WINDOW = 16
TEXT_ONLY = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3_text",
    "smollm3",
    "phi3",
    "ernie4_5",
)


def config_for(name: str, words: Words, tokenizer: Any, layers: int, **changes: Facts) -> Any:
    """The transformers configuration. `changes`: fields by part (`text`, `vision`, `top`) that differ."""
    from transformers import AutoConfig

    if name in ORIGINAL:
        return configuration(flat_for(name, words, tokenizer, layers, **changes))
    ids = tokenizer.convert_tokens_to_ids
    common = _common(words, tokenizer, layers)
    if name in TEXT_ONLY:
        kind, facts = decoder(name, layers)
        return AutoConfig.for_model(kind, **_changed({**common, **facts}, "text", changes))
    model_type, text, vision, top = FAMILIES[name](layers, ids)
    top = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": common["eos_token_id"], **top}
    return AutoConfig.for_model(
        model_type,
        **_changed(top, "top", changes),
        text_config=_changed({**common, **text}, "text", changes),
        vision_config=_changed(vision, "vision", changes),
    )


def flat_for(name: str, words: Words, tokenizer: Any, layers: int, **changes: Facts) -> Facts:
    """As `config_for`, of those that transformers does not have: config.json itself."""
    model_type, text, vision, top = FAMILIES[name](layers, tokenizer.convert_tokens_to_ids)
    parts = {"text": {**_common(words, tokenizer, layers), **text}, "vision": vision, "top": top}
    return flat(model_type, *(_changed(facts, part, changes) for part, facts in parts.items()))


def _common(words: Words, tokenizer: Any, layers: int) -> Facts:
    stops = [tokenizer.convert_tokens_to_ids(token) for token in words.stops]
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
    }


def _changed(facts: Facts, part: str, changes: dict[str, Facts]) -> Facts:
    """With the changes of a part; what is None there is left out."""
    wanted = changes.get(part, {})
    merged = {**facts, **wanted}
    return {name: value for name, value in merged.items() if value is not None or name not in wanted}


def decoder(kind: str, layers: int) -> tuple[str, Facts]:
    """A text-only decoder's type, and its fields beside the common ones."""
    later_sliding = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": layers // 2}
    known: dict[str, Facts] = {
        "llama": {"tie_word_embeddings": False},
        "qwen2": {**later_sliding, "tie_word_embeddings": True},
        "qwen3": {"head_dim": 16, "tie_word_embeddings": True},
        "mistral": {"head_dim": 16, "sliding_window": WINDOW, "tie_word_embeddings": False},
        "gemma": {"head_dim": 16, "tie_word_embeddings": True},
        "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": WINDOW, **_TIED},
        "gemma3_text": _gemma3(layers),
        "smollm3": {"tie_word_embeddings": True, "no_rope_layer_interval": 3},
        "phi3": {"tie_word_embeddings": False},
        "ernie4_5": {"head_dim": 16, "use_bias": True, "tie_word_embeddings": True},
    }
    return kind, known[kind]


_TIED = {"tie_word_embeddings": True}


def _gemma3(layers: int) -> Facts:
    kinds = ["full_attention" if layer % 3 == 2 else "sliding_attention" for layer in range(layers)]
    window = {"sliding_window": WINDOW, "layer_types": kinds}
    return {"head_dim": 16, "query_pre_attn_scalar": 16, **window, **_TIED}


def _tower(kind: str, **more: Any) -> Facts:
    return {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        **more,
    }


Ids = Callable[[str], int]
Parts = tuple[str, Facts, Facts, Facts]
_CLIP = _tower("clip_vision_model", projection_dim=32)
_SIGLIP = _tower("siglip_vision_model", vision_use_head=False)
_PIXTRAL = _tower("pixtral", image_size=48, head_dim=16)
_LAST = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
_SECOND = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}


def _inner(kind: str, layers: int) -> Facts:
    name, facts = decoder(kind, layers)
    return {"model_type": name, **facts}


def _llava(
    tower: Facts, kind: str, top: Facts, model_type: str = "llava", *, token: str = "<image>", video: str = ""
) -> Any:
    def parts(layers: int, ids: Ids) -> Parts:
        text = _inner(kind, layers)
        tied = text["tie_word_embeddings"]
        videos = {"video_token_index": ids(video)} if video else {}
        tokens = {"image_token_index": ids(token), **videos}
        return model_type, text, tower, {**tokens, "tie_word_embeddings": tied, **top}

    return parts


def _qwen(model_type: str, vision: Facts, rope: Facts, more: Facts | None = None) -> Any:
    def parts(layers: int, ids: Ids) -> Parts:
        tokens = {
            "image_token_id": ids("<|image_pad|>"),
            "video_token_id": ids("<|video_pad|>"),
            "vision_start_token_id": ids("<|vision_start|>"),
            "vision_end_token_id": ids("<|vision_end|>"),
        }
        text = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **rope}, **(more or {})}
        tied = not model_type.endswith("moe")
        tower = {
            "depth": 3,
            "num_heads": 2,
            "in_channels": 3,
            "patch_size": 8,
            "spatial_merge_size": 2,
            **vision,
        }
        return (
            model_type,
            {**text, "tie_word_embeddings": tied},
            tower,
            {**tokens, "tie_word_embeddings": tied},
        )

    return parts


_WIDE = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": WIDTH}
_DEEP = {**_WIDE, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2], "temporal_patch_size": 2}
_ROWS = {"mrope_section": [2, 3, 3]}
_INTERLEAVED = {"mrope_section": [4, 2, 2], "mrope_interleaved": True}
_EXPERTS = {
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [1, 4],
}


def _split(model_type: str) -> Any:
    def parts(layers: int, ids: Ids) -> Parts:
        text = {**_inner("llama", layers), "tie_word_embeddings": False}
        top = {"image_token_id": ids("<image>"), "scale_factor": 2, "tie_word_embeddings": False}
        return model_type, text, _tower(f"{model_type}_vision"), top

    return parts


def _internvl(layers: int, ids: Ids) -> Parts:
    tower = _tower("internvl_vision", image_size=[32, 32], patch_size=[8, 8], use_qk_norm=True)
    top = {"image_token_id": ids("<IMG_CONTEXT>"), "image_seq_length": 4, "downsample_ratio": 0.5}
    text = {**_inner("qwen2", layers), "tie_word_embeddings": False}
    return "internvl", text, tower, {**top, "tie_word_embeddings": False}


def _paligemma(kind: str) -> Any:
    def parts(layers: int, ids: Ids) -> Parts:
        tower = {**_SIGLIP, "projection_dim": WIDTH}
        top = {"image_token_index": ids("<image>"), "projection_dim": WIDTH, "hidden_size": WIDTH}
        return "paligemma", _inner(kind, layers), tower, {**top, "bos_token_id": ids("<bos>")}

    return parts


def _gemma3_pictures(layers: int, ids: Ids) -> Parts:
    top = {
        "image_token_index": ids("<image_soft_token>"),
        "boi_token_index": ids("<start_of_image>"),
        "eoi_token_index": ids("<end_of_image>"),
        "mm_tokens_per_image": 4,
    }
    return "gemma3", {"model_type": "gemma3_text", **_gemma3(layers)}, _SIGLIP, top


def _mistral3(layers: int, ids: Ids) -> Parts:
    top = {"image_token_index": ids("[IMG]"), "spatial_merge_size": 2, "vision_feature_layer": -1}
    text = {**_inner("mistral", layers), "sliding_window": None}
    return "mistral3", text, _PIXTRAL, {**top, "tie_word_embeddings": False}


def _paddle(layers: int, ids: Ids) -> Parts:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {"head_dim": 16, "rope_parameters": rope, "tie_word_embeddings": False}
    top = {
        "image_token_id": ids("<|IMAGE_PLACEHOLDER|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|IMAGE_START|>"),
        "vision_end_token_id": ids("<|IMAGE_END|>"),
        "tie_word_embeddings": False,
    }
    tower = _tower("paddleocr_vl_vision", spatial_merge_size=2)
    return "paddleocr_vl", text, tower, top


def _glm4v(layers: int, ids: Ids) -> Parts:
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [1, 1, 2],
        "partial_rotary_factor": 0.5,
    }
    tower = {
        "depth": 3,
        "hidden_size": 32,
        "num_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "out_hidden_size": WIDTH,
        "intermediate_size": 64,
    }
    top = {
        "image_token_id": ids("<|image|>"),
        "video_token_id": ids("<|video|>"),
        "image_start_token_id": ids("<|begin_of_image|>"),
        "image_end_token_id": ids("<|end_of_image|>"),
        "video_start_token_id": ids("<|begin_of_video|>"),
        "video_end_token_id": ids("<|end_of_video|>"),
    }
    return "glm4v", {"rope_parameters": rope}, tower, top


def _videollama3(layers: int, ids: Ids) -> Parts:
    tower = {name: value for name, value in _tower("video_llama_3_vision").items() if name != "image_size"}
    top = {"image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>")}
    text = {**_inner("qwen2", layers), "sliding_window": None, "use_sliding_window": False}
    return "video_llama_3", text, tower, {**top, "tie_word_embeddings": True}


def _ovis2(layers: int, ids: Ids) -> Parts:
    tower = _tower("ovis2_vision", hidden_stride=2, vocab_size=48, num_visual_indicator_tokens=5)
    marks = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    top = {
        "image_token_id": ids("<IMG_ATOM>"),
        "visual_indicator_token_ids": [ids(mark) for mark in marks],
        "hidden_size": WIDTH,
        "tie_word_embeddings": True,
    }
    return "ovis2", {**_inner("qwen2", layers), "tie_word_embeddings": True}, tower, top


def _videollama2(tower: Facts, kind: str, connector: str) -> Any:
    def parts(layers: int, ids: Ids) -> Parts:
        top = {
            "mm_projector_type": connector,
            "image_token_id": 0,
            "video_token_id": 0,
            "tie_word_embeddings": False,
        }
        text = {**_inner(kind, layers), "tie_word_embeddings": False}
        return f"videollama2_{kind}", text, tower, top

    return parts


# Name -> (layers, token ids) -> model type, fields of text, vision and top.
FAMILIES: dict[str, Callable[[int, Ids], Parts]] = {
    "llava-clip-llama": _llava(_CLIP, "llama", _SECOND),
    "llava-siglip-qwen2": _llava(_SIGLIP, "qwen2", _LAST),
    "llava-siglip-qwen3": _llava(_SIGLIP, "qwen3", _LAST),
    "llava-pixtral-mistral": _llava(_PIXTRAL, "mistral", _LAST, token="[IMG]"),
    "vipllava": _llava(_CLIP, "llama", {"vision_feature_layers": [-2, -1, 1]}, "vipllava"),
    "llava_next": _llava(
        _CLIP,
        "llama",
        {**_SECOND, "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]},
        "llava_next",
    ),
    "llava_next_video": _llava(
        _CLIP,
        "llama",
        {**_SECOND, "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]},
        "llava_next_video",
        video="<video>",
    ),
    "video_llava": _llava(_CLIP, "llama", _SECOND, "video_llava", video="<video>"),
    "llava_onevision": _llava(
        _SIGLIP,
        "qwen2",
        {
            **_LAST,
            "image_grid_pinpoints": [
                [32 * row, 32 * column] for row in range(1, 5) for column in range(1, 5)
            ],
            "vision_aspect_ratio": "anyres_max_2",
        },
        "llava_onevision",
        video="<video>",
    ),
    "video_llama_3": _videollama3,
    "qwen2_vl": _qwen("qwen2_vl", {"embed_dim": 32, "hidden_size": WIDTH, "mlp_ratio": 2}, _ROWS),
    "qwen2_5_vl": _qwen("qwen2_5_vl", {**_WIDE, "window_size": 32, "fullatt_block_indexes": [1]}, _ROWS),
    "qwen3_vl": _qwen("qwen3_vl", _DEEP, _INTERLEAVED, {"head_dim": 16}),
    "qwen3_vl_moe": _qwen("qwen3_vl_moe", _DEEP, _INTERLEAVED, _EXPERTS),
    "idefics3": _split("idefics3"),
    "smolvlm": _split("smolvlm"),
    "internvl": _internvl,
    "paligemma": _paligemma("gemma"),
    "paligemma2": _paligemma("gemma2"),
    "gemma3": _gemma3_pictures,
    "mistral3": _mistral3,
    "paddleocr_vl": _paddle,
    "glm4v": _glm4v,
    "ovis2": _ovis2,
    "videollama2-clip-mistral": _videollama2(_CLIP, "mistral", "stc_connector"),
    "videollama2-siglip-qwen2": _videollama2(_SIGLIP, "qwen2", "stc_connector_v35"),
}
