"""Hugging Face config.json -> the sizes that decide a model's cost, defaults of transformers filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from topovlm.errors import InputError, explain
from topovlm.families.catalogue import DECODERS, TOWERS, families_that, family_for
from topovlm.families.configs import TEXT_KEYS, VISION_KEY, ModelConfig
from topovlm.families.family import Decoder, Family, Tokens, Tower, named
from topovlm.families.implied import SLIDING, layer_list
from topovlm.families.limits import check_limits
from topovlm.families.shape import DecoderShape, FilmBounds, ModelShape, VisionShape
from topovlm.families.tilings import max_tiles, pinpoints

_PROJECTORS = "topovlm.families.projectors"
# Fields of towers and projectors beside their sizes.
_NUMBERS = frozenset(
    {
        "downsample_ratio",
        "hidden_stride",
        "out_hidden_size",
        "projector_pooling_ratio",
        "scale_factor",
        "spatial_merge_size",
        "temporal_patch_size",
        "window_size",
    }
)
_LISTS = frozenset({"deepstack_visual_indexes", "fullatt_block_indexes"})
_MERGE = "merge_size"
_COUNTS_OF_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def read_shape(
    config: ModelConfig, preprocessor: ModelConfig | None = None, videos: ModelConfig | None = None
) -> ModelShape:
    """Sizes from a config.json (and, for pixel bounds and tiles, a preprocessor_config.json; for those of
    frames, a video_preprocessor_config.json, else the former).

    Values that the file leaves out are those that transformers would supply. Raises `InputError` naming the
    field for an unknown mixture of experts, an unknown model type or a missing size.
    """
    check_limits(config)
    model_type = str(config.get("model_type", ""))
    family = family_for(config)
    defaults = family.defaults if family else {}
    left_out = {name: value for name, value in defaults.items() if config.get(name) is None}
    old_names = family.renamed.items() if family else ()
    older = {new: config[old] for new, old in old_names if config.get(new) is None and old in config}
    whole = {**config, **left_out, **older}
    decoder = _decoder(whole, family)
    raw_vision = config.get(VISION_KEY)
    if not isinstance(raw_vision, Mapping) or (family is not None and family.tokens is None):
        return ModelShape(model_type, "text", decoder, None)
    if family is None or family.tokens is None:
        rule = "the number of visual tokens of this model type is not known here"
        raise InputError(
            explain("model_type", model_type, rule, "Known: " + ", ".join(families_that("plan")))
        )
    rules, processor = picture_rules(whole, family), preprocessor or {}
    size = processor.get("size") or {}
    if rules.processor_merges:
        whole = {**whole, _MERGE: processor.get(_MERGE) or rules.pictures.get("merge", 1)}
    tower = _vision(whole, family, rules, decoder)
    low, high = rules.min_pixels, rules.max_pixels  # 0: the family bounds no area
    return ModelShape(
        model_type=model_type,
        layout=rules.layout,
        frames=rules.frames,
        several=rules.several,
        decoder=decoder,
        vision=tower,
        drop_first_token=_drops_first_token(whole, family),
        tokens_per_image=_optional_size(whole, "top", rules.per_image) if rules.per_image else None,
        clip_frames=_size(whole, "top", rules.clip) if rules.clip else 0,
        clip_padding=_optional_size(whole, "top", "sampler_padding") or 0,
        grid_pinpoints=pinpoints(whole, rules),
        max_tiles=max_tiles(whole, processor, rules),
        longest_edge=size.get("longest_edge") or rules.longest_edge or 4 * tower.image_size,
        min_pixels=(processor.get("min_pixels") or size.get("shortest_edge") or low) if low else 0,
        max_pixels=(processor.get("max_pixels") or size.get("longest_edge") or high) if high else 0,
        films=_film_bounds(rules, videos or processor),
    )


def _film_bounds(rules: Tokens, videos: ModelConfig) -> FilmBounds | None:
    stated, size = rules.videos or {}, videos.get("size") or {}
    if "min_pixels" not in stated:
        return None
    return FilmBounds(
        videos.get("min_pixels") or size.get("shortest_edge") or int(stated["min_pixels"]),
        videos.get("max_pixels") or size.get("longest_edge") or int(stated["max_pixels"]),
        together=bool(stated.get("together")),
        divided=bool(stated.get("divided")),
        merge=int(videos.get(_MERGE) or stated.get("merge", 0)) if rules.processor_merges else 0,
        sifts=bool(stated.get("sifts")) and videos.get("use_token_compression") is not False,
    )


def completed(config: ModelConfig) -> dict[str, Any]:
    """The configuration with the decoder's sizes where it leaves them out, for readers without defaults.

    Fields that it has keep their values.
    """
    family = family_for(config)
    whole = {**family.defaults, **config} if family else config
    key = next((key for key in TEXT_KEYS if isinstance(whole.get(key), Mapping)), None)
    text = whole if key is None else whole[key]
    shape = _decoder(whole, family)
    filled = {
        "model_type": family.default_decoder if family else config.get("model_type"),
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocab,
        **text,
    }
    return filled if key is None else {**config, key: filled}


def _typed(part: ModelConfig, whole: ModelConfig, default: str) -> str:
    """The type of a part; older configurations leave it out, or repeat the model's own."""
    stated = str(part.get("model_type") or whole.get("model_type"))
    return default if stated == whole.get("model_type") else stated


def _size(config: ModelConfig, part: str, *names: str) -> int:
    """First of `names` that is there, as a positive integer (a [h, w] pair must be square)."""
    for name in names:
        value: Any = config.get(name)
        if isinstance(value, (list, tuple)) and value and all(side == value[0] for side in value):
            value = value[0]
        if _is_positive(value) and value >= 1 and value == int(value):
            return int(value)
    value = next((config[name] for name in names if name in config), None)
    rule = "must be there as a positive whole number"
    raise InputError(
        explain(f"config.json: {part}.{names[0]}", value, rule, "Is this a model's config.json?")
    )


def _optional_size(config: ModelConfig, part: str, *names: str) -> int | None:
    """As `_size`, but None where the configuration leaves it out (or says null or 0)."""
    return _size(config, part, *names) if any(config.get(name) for name in names) else None


def _decoder(whole: ModelConfig, family: Family | None) -> DecoderShape:
    nested = next((whole[key] for key in TEXT_KEYS if isinstance(whole.get(key), Mapping)), None)
    raw = whole if nested is None else nested
    kind = _typed(nested or {}, whole, family.default_decoder if family else str(whole.get("model_type")))
    record = DECODERS.get(kind) or Decoder(model_type=kind)
    text = {**record.defaults, **raw}
    hidden = _size(text, "text", "hidden_size")
    heads = _size(text, "text", "num_attention_heads")
    layers = _size(text, "text", "num_hidden_layers", "num_layers")
    window = _optional_size(text, "text", "sliding_window")
    share = _sliding_share(record, text, layers) if window else 0.0
    tied = whole.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    return DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_optional_size(text, "text", "num_key_value_heads") or heads,
        head_dim=_optional_size(text, "text", "head_dim") or hidden // heads,
        intermediate=_size(text, "text", "intermediate_size"),
        vocab=_size({**whole, **text}, "text", "vocab_size"),
        tied=bool(tied),
        gated=record.gated,
        sliding_window=window if share else None,
        sliding_share=share,
        **_experts(record, raw, text, layers),
    )


def _sliding_share(record: Decoder, text: ModelConfig, layers: int) -> float:
    """Without a list, stated or implied, a window is every layer's."""
    kinds = layer_list(record, text, layers, "layer_types")
    if kinds:
        return kinds.count(SLIDING) / len(kinds)
    return 1.0 if text.get("use_sliding_window", True) else 0.0


def _experts(record: Decoder, stated: ModelConfig, text: ModelConfig, layers: int) -> dict[str, Any]:
    """Sizes of a mixture of experts, nothing for a dense model. Raises `InputError` for unknown ones.

    `stated`: `text` without defaults, where one spelling of the count would hide another that is stated.
    """
    fields = record.experts
    names = fields.count if fields else _COUNTS_OF_EXPERTS
    for name in sorted(names, key=lambda name: not stated.get(name)):
        if not text.get(name):
            continue
        if fields is None:
            rule = f"a mixture of experts in {record.model_type} decoders cannot be planned"
            raise InputError(explain(f"config.json: {name}", text[name], rule, "Choose a dense model"))
        dense = layer_list(record, text, layers, fields.dense) or []
        return {
            "experts": _size(text, "text", name),
            "active_experts": _size(text, "text", fields.active),
            "expert_intermediate": _size(text, "text", fields.width),
            "sparse_share": 1 - len(dense) / layers,
        }
    return {}


def tower_of(config: ModelConfig, family: Family) -> tuple[Tower, dict[str, Any]]:
    """The tower's record, and its fields with transformers' defaults; those of a nested part lie among them.

    An unknown tower is taken to have the sizes of the family's usual one.
    """
    raw = config.get(VISION_KEY) or {}
    kind = _typed(raw, config, family.default_tower)
    tower = TOWERS.get(str(raw.get("architecture"))) or TOWERS.get(kind)
    if tower is None:
        tower = Tower(model_type=kind, defaults=TOWERS[family.default_tower].defaults)
    inner = raw.get(tower.nested)
    stated = {**raw, **(inner if isinstance(inner, Mapping) else {})}
    return tower, {**tower.defaults, **{name: value for name, value in stated.items() if value is not None}}


def picture_rules(config: ModelConfig, family: Family) -> Tokens:
    """The family's rules for pictures, with those that the tower inside decides."""
    assert family.tokens is not None
    return msgspec.structs.replace(family.tokens, **tower_of(config, family)[0].tokens)


def _vision(whole: ModelConfig, family: Family, rules: Tokens, decoder: DecoderShape) -> VisionShape:
    tower, vision = tower_of(whole, family)
    _refuse_misfits({**whole, **vision})
    # Qwen2-VL calls the width `embed_dim` and uses `hidden_size` for what leaves the tower.
    hidden = _size(vision, "vision", "embed_dim", "hidden_size")
    layers = _size(vision, "vision", "num_hidden_layers", "depth", "num_layers")
    if tower.mlp_width in vision:
        intermediate = _size(vision, "vision", tower.mlp_width)
    else:
        ratio = vision.get("mlp_ratio", 4)  # 0 of towers whose sizes are not here
        if not _is_positive(ratio) and ratio != 0:
            raise InputError(explain("config.json: vision.mlp_ratio", ratio, "must be a number"))
        intermediate = int(hidden * ratio)
    patch = _size(vision, "vision", "patch_size")
    image_size = 0 if rules.any_size else _size(vision, "vision", "image_size", "img_size")
    if 0 < image_size < patch:
        rule = f"is smaller than one patch ({patch} px)"
        raise InputError(explain("config.json: vision.image_size", image_size, rule))
    merge = _merge({**whole, **vision}, rules)
    chosen = _chosen_layers(layers, whole)
    used = max(chosen)
    full, window = vision.get("fullatt_block_indexes"), vision.get("window_size")
    features = hidden * merge**2 * len(chosen)

    def params(projector: str) -> int:
        return int(named(projector, _PROJECTORS)(vision, features, decoder.hidden)) if projector else 0

    return VisionShape(
        layers=used,
        hidden=hidden,
        intermediate=intermediate,
        gated=tower.gated,
        patch=patch,
        image_size=image_size,
        channels=_optional_size(vision, "vision", "num_channels", "in_channels") or 3,
        class_token=tower.class_token,
        merge=merge,
        temporal_patch=int(vision.get("temporal_patch_size", 1)),
        window_patches=(int(window) // patch) ** 2 if full and window else None,
        windowed_layers=max(0, used - len(full)) if full and window else 0,
        projector_params_per_token=params(rules.projector),
        projector_params_per_patch=params(rules.patch_projector),
        stored_params=tower.stored_params,
        towers=rules.towers,
    )


def _refuse_misfits(fields: ModelConfig) -> None:
    """Raise `InputError` naming a field that is there and is not what it must be."""
    for name, value in fields.items():
        if name in _NUMBERS and value is not None and not _is_positive(value):
            rule = "must be a positive number"
        elif name in _LISTS and value is not None and not isinstance(value, (list, tuple)):
            rule = "must be a list"
        else:
            continue
        raise InputError(explain(f"config.json: {name}", value, rule, "Is this a model's config.json?"))


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _merge(values: ModelConfig, rules: Tokens) -> int:
    """Patches along one side of a token; some configurations state the inverse."""
    field = _MERGE if rules.processor_merges else rules.merge
    stated = values[field] if field else 1
    if stated is None:
        raise InputError(explain(f"config.json: {field}", stated, "must be a positive number"))
    return round(stated if stated >= 1 else 1 / stated)


def _chosen_layers(layers: int, whole: ModelConfig) -> list[int]:
    """Layers whose output is read, counted from 1; an exported graph leaves out those behind the last.

    Stated entries count outputs: 0 is what goes into the first layer, -1 what leaves the last.
    """
    stated: Any = whole.get("vision_feature_layer")
    chosen = list(stated) if isinstance(stated, (list, tuple)) else [-1 if stated is None else stated]
    for layer in chosen or [None]:
        whole_number = isinstance(layer, int) and not isinstance(layer, bool)
        if not whole_number or not -layers - 1 <= layer <= layers:
            rule = f"must name outputs of a tower of {layers} layers: {-layers - 1} to {layers}"
            raise InputError(explain("config.json: vision_feature_layer", stated, rule))
    return [max(1, layers + layer + 1 if layer < 0 else layer) for layer in chosen]


def _drops_first_token(whole: ModelConfig, family: Family) -> bool:
    """Whether the first of a picture's features is left out. Raises `InputError` for another word."""
    stated = whole.get("vision_feature_select_strategy")
    if stated not in (None, "default", "full") and "vision_feature_select_strategy" in family.defaults:
        rule, remedy = "must be default or full", "Older files say patch for default, cls_patch for full"
        raise InputError(explain("config.json: vision_feature_select_strategy", stated, rule, remedy))
    return bool(stated == "default")
