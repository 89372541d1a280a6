"""Hugging Face config.json -> the sizes that decide a model's cost, defaults of transformers filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.shape import DecoderShape, ModelShape, VisionShape

# How each model type turns a picture into vision sequences and visual tokens (see vision.py).
LAYOUTS = {
    "llava": "fixed",
    "vipllava": "fixed",
    "paligemma": "fixed",
    "gemma3": "fixed",
    "llava_next": "anyres",
    "llava_onevision": "anyres",
    "qwen2_vl": "native",
    "qwen2_5_vl": "native",
    "qwen3_vl": "native",
    "internvl": "tiles",
    "idefics3": "split",
    "smolvlm": "split",
}
_WITHOUT_GATE = {"gpt2", "gpt_neox", "opt", "phi", "starcoder2"}
# The tower of these is described by the model's own type; the text part may be too (older configs).
_VISION_TYPE_OF_MODEL = {
    "llava": "clip_vision_model",
    "llava_next": "clip_vision_model",
    "llava_onevision": "siglip_vision_model",
    "paligemma": "siglip_vision_model",
    "gemma3": "siglip_vision_model",
    "idefics3": "idefics3_vision",
    "smolvlm": "smolvlm_vision",
    "internvl": "internvl_vision",
}
_TEXT_TYPE_OF_MODEL = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "gemma3": "gemma3_text",
    "paligemma": "gemma",
}
_PIXEL_BOUNDS = {"qwen2_vl": (3136, 12845056), "qwen2_5_vl": (3136, 12845056), "qwen3_vl": (65536, 16777216)}


def read_config(config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None) -> ModelShape:
    """See `ModelShape.from_config`."""
    model_type = str(config.get("model_type", ""))
    text, vision = _sub_configs(config, model_type)
    decoder = _decoder(text, config)
    if vision is None:
        return ModelShape(model_type, "text", decoder, None)
    if model_type not in LAYOUTS:
        rule = "the number of visual tokens of this model type is not known here"
        raise InputError(explain("model_type", model_type, rule, "Known: " + ", ".join(sorted(LAYOUTS))))
    whole = {**_defaults("model", model_type), **config}
    tower = _vision(vision, whole, model_type, decoder)
    processor = preprocessor or {}
    size = processor.get("size") or {}
    low, high = _PIXEL_BOUNDS.get(model_type, (0, 0))
    bounds = (
        processor.get("min_pixels") or size.get("shortest_edge") or low,
        processor.get("max_pixels") or size.get("longest_edge") or high,
    )
    return ModelShape(
        model_type=model_type,
        layout=LAYOUTS[model_type],
        decoder=decoder,
        vision=tower,
        drop_first_token=_drops_first(whole, LAYOUTS[model_type], model_type),
        tokens_per_image=whole.get("mm_tokens_per_image") if model_type == "gemma3" else None,
        grid_pinpoints=_pinpoints(whole) if LAYOUTS[model_type] == "anyres" else (),
        max_tiles=_max_tiles(whole, processor, LAYOUTS[model_type]),
        longest_edge=size.get("longest_edge") or 4 * tower.image_size,
        min_pixels=bounds[0] if LAYOUTS[model_type] == "native" else 0,
        max_pixels=bounds[1] if LAYOUTS[model_type] == "native" else 0,
    )


@lru_cache(maxsize=1)
def _default_tables() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(Path(__file__).with_name("config_defaults.json").read_text(encoding="utf-8"))


def _defaults(kind: str, name: str) -> dict[str, Any]:
    return _default_tables()[kind].get(name, {})


def _sub_configs(config: Mapping[str, Any], model_type: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Text and vision parts with defaults filled in; older configs keep the text part at the top."""
    nested = next(
        (config[key] for key in ("text_config", "llm_config") if isinstance(config.get(key), dict)), None
    )
    text_type = str((nested or {}).get("model_type") or _TEXT_TYPE_OF_MODEL.get(model_type, model_type))
    if text_type in _TEXT_TYPE_OF_MODEL and text_type != "gemma3":
        text_type = _TEXT_TYPE_OF_MODEL[text_type]
    text = {
        **_defaults("text", text_type),
        **(nested if nested is not None else config),
        "model_type": text_type,
    }
    raw_vision = config.get("vision_config")
    if not isinstance(raw_vision, dict):
        return text, None
    vision_type = str(raw_vision.get("model_type") or _VISION_TYPE_OF_MODEL.get(model_type, model_type))
    if model_type in _PIXEL_BOUNDS:
        vision_type = model_type
    known = _defaults("vision", vision_type) or _defaults("vision", _VISION_TYPE_OF_MODEL.get(model_type, ""))
    return text, {**known, **raw_vision, "model_type": vision_type}


def _size(config: Mapping[str, Any], part: str, *names: str) -> int:
    """First of `names` that is there, as a positive integer (a [h, w] pair must be square)."""
    for name in names:
        value = config.get(name)
        if isinstance(value, (list, tuple)) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return int(value)
    value = next((config[name] for name in names if name in config), None)
    rule = "must be there as a positive whole number"
    raise InputError(
        explain(f"config.json: {part}.{names[0]}", value, rule, "Is this a model's config.json?")
    )


def _optional_size(config: Mapping[str, Any], part: str, *names: str) -> int | None:
    """As `_size`, but None where the configuration leaves it out (or says null or 0)."""
    return _size(config, part, *names) if any(config.get(name) for name in names) else None


def _decoder(text: Mapping[str, Any], config: Mapping[str, Any]) -> DecoderShape:
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        if text.get(name):
            rule = "mixtures of experts cannot be planned"
            raise InputError(explain(f"config.json: {name}", text[name], rule, "Choose a dense model"))
    hidden = _size(text, "text", "hidden_size")
    heads = _size(text, "text", "num_attention_heads")
    layers = _size(text, "text", "num_hidden_layers", "num_layers")
    sliding = text.get("use_sliding_window", True)
    window = _optional_size(text, "text", "sliding_window") if sliding else None
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    return DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_optional_size(text, "text", "num_key_value_heads") or heads,
        head_dim=_optional_size(text, "text", "head_dim") or hidden // heads,
        intermediate=_size(text, "text", "intermediate_size"),
        vocab=_size({**config, **text}, "text", "vocab_size"),
        tied=bool(tied),
        gated=text.get("model_type") not in _WITHOUT_GATE,
        sliding_window=window,
        sliding_share=_sliding_share(text, layers) if window else 0.0,
    )


def _sliding_share(text: Mapping[str, Any], layers: int) -> float:
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and kinds:
        return sum(kind == "sliding_attention" for kind in kinds) / len(kinds)
    pattern = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    if pattern:
        return 1 - (layers // int(pattern)) / layers
    return 1.0


def _vision(
    vision: Mapping[str, Any], whole: Mapping[str, Any], model_type: str, decoder: DecoderShape
) -> VisionShape:
    # Qwen2-VL calls the width `embed_dim` and uses `hidden_size` for what leaves the tower.
    hidden = _size(vision, "vision", "embed_dim", "hidden_size")
    layers = _size(vision, "vision", "num_hidden_layers", "depth", "num_layers")
    if "intermediate_size" in vision:
        intermediate = _size(vision, "vision", "intermediate_size")
    else:
        intermediate = int(hidden * float(vision.get("mlp_ratio", 4)))
    patch = _size(vision, "vision", "patch_size")
    layout = LAYOUTS[model_type]
    image_size = 0 if layout == "native" else _size(vision, "vision", "image_size")
    merge = {
        "native": lambda: int(vision.get("spatial_merge_size", 2)),
        "tiles": lambda: round(1 / float(whole.get("downsample_ratio", 0.5))),
        "split": lambda: int(whole.get("scale_factor", 2)),
    }.get(layout, lambda: 1)()
    full = vision.get("fullatt_block_indexes")
    window = vision.get("window_size")
    used = _used_layers(layers, whole) if layout in ("fixed", "anyres", "tiles") else layers
    return VisionShape(
        layers=used,
        hidden=hidden,
        intermediate=intermediate,
        gated=vision.get("model_type") == "qwen2_5_vl",
        patch=patch,
        image_size=image_size,
        channels=_optional_size(vision, "vision", "num_channels", "in_channels") or 3,
        class_token=vision.get("model_type") in ("clip_vision_model", "internvl_vision"),
        merge=merge,
        temporal_patch=int(vision.get("temporal_patch_size", 1)) if layout == "native" else 1,
        window_patches=(int(window) // patch) ** 2 if full and window else None,
        windowed_layers=used - len(full) if full and window else 0,
        projector_params_per_token=_projector(vision, model_type, hidden * merge**2, decoder.hidden),
    )


def _used_layers(layers: int, whole: Mapping[str, Any]) -> int:
    """LLaVA reads an inner layer's output; an exported graph leaves out the layers behind it."""
    chosen = whole.get("vision_feature_layer", -1)
    deepest = max(chosen) if isinstance(chosen, (list, tuple)) and chosen else chosen
    if not isinstance(deepest, int):
        return layers
    return max(1, min(layers, layers + deepest + 1 if deepest < 0 else deepest))


def _projector(vision: Mapping[str, Any], model_type: str, merged: int, text_hidden: int) -> int:
    """Weights per visual token; `merged`: width of the patches that make one token, side by side."""
    layout = LAYOUTS[model_type]
    if layout == "native":
        out = int(vision.get("out_hidden_size") or text_hidden) if "embed_dim" not in vision else text_hidden
        return (merged * merged + merged * out) * (1 + len(vision.get("deepstack_visual_indexes") or ()))
    if layout == "split" or model_type in ("paligemma", "gemma3"):
        return merged * text_hidden
    return merged * text_hidden + text_hidden**2


def _drops_first(whole: Mapping[str, Any], layout: str, model_type: str) -> bool:
    if model_type in ("paligemma", "gemma3") or layout not in ("fixed", "anyres", "tiles"):
        return False
    return whole.get("vision_feature_select_strategy", "default") == "default"


def _pinpoints(whole: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    if whole.get("image_grid_pinpoints"):
        return tuple((int(height), int(width)) for height, width in whole["image_grid_pinpoints"])
    square = whole["image_grid_pinpoints_square"]
    sides = [square["unit"] * (step + 1) for step in range(square["count"])]
    return tuple((height, width) for height in sides for width in sides)


def _max_tiles(whole: Mapping[str, Any], processor: Mapping[str, Any], layout: str) -> int:
    if layout == "tiles":
        return int(processor.get("max_patches") or 12)
    aspect = str(whole.get("vision_aspect_ratio", ""))
    return int(aspect.rpartition("_")[2]) if aspect.startswith("anyres_max_") else 0
