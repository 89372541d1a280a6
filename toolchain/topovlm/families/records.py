"""What must be known about a model family before a layer may leave it, as data.

A family is a row of `FAMILIES`, a decoder type a row of `DECODERS`; adding one is adding a row. What is
not written here is refused by name: a guessed per-layer field gives a checkpoint that loads and is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topovlm.errors import InputError, explain


@dataclass(frozen=True)
class Decoder:
    """One decoder type (`text_config.model_type`). Field names are those of its configuration.

    `default_layers` is what transformers assumes when a configuration leaves the number out.
    `per_layer`: lists with one entry per layer. `prefix_counts`: "the first n layers are ...".
    `index_lists`: lists of layer indices.
    """

    model_type: str
    default_layers: int
    per_layer: tuple[str, ...] = ()
    prefix_counts: tuple[str, ...] = ()
    index_lists: tuple[str, ...] = ()
    down_projection: str = "mlp.down_proj"


@dataclass(frozen=True)
class Family:
    """One model type. Prefixes end where the layer index begins; `live_*` are attribute paths in torch.

    `required` holds tensor names (any of the alternatives of each row will do) without which nothing runs.
    """

    model_type: str
    text_key: str
    layer_prefixes: tuple[str, ...]
    decoders: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]
    head: tuple[str, ...]
    live_blocks: str
    live_norm: str
    live_head: str
    protect_first: int = 3
    protect_last: int = 2


DECODERS: dict[str, Decoder] = {
    row.model_type: row
    for row in (
        Decoder("llama", default_layers=32, per_layer=("layer_types",)),
        Decoder("mistral", default_layers=32, per_layer=("layer_types",)),
        Decoder("qwen2", default_layers=32, per_layer=("layer_types",), prefix_counts=("max_window_layers",)),
    )
}

FAMILIES: dict[str, Family] = {
    row.model_type: row
    for row in (
        Family(
            model_type="llava",
            text_key="text_config",
            # transformers writes the first form; checkpoints dumped from a state_dict have the second.
            layer_prefixes=("language_model.model.layers.", "model.language_model.layers."),
            decoders=("llama", "mistral", "qwen2"),
            required=(
                ("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
                ("language_model.model.norm.weight", "model.language_model.norm.weight"),
                ("multi_modal_projector.linear_1.weight", "model.multi_modal_projector.linear_1.weight"),
                ("multi_modal_projector.linear_2.weight", "model.multi_modal_projector.linear_2.weight"),
            ),
            head=("language_model.lm_head.weight", "lm_head.weight"),
            live_blocks="model.language_model.layers",
            live_norm="model.language_model.norm",
            live_head="lm_head",
        ),
    )
}

# Fields of other decoders that name or count layers. They are harmless when empty and refused when set.
INDEX_LIKE_FIELDS = frozenset(
    {
        "attn_layer_indices",
        "attn_layer_offset",
        "attn_layer_period",
        "cross_attention_layers",
        "decoder_sparse_step",
        "deepstack_visual_indexes",
        "expert_layer_offset",
        "expert_layer_period",
        "first_k_dense_replace",
        "full_attention_interval",
        "full_attn_idxs",
        "global_attn_every_n_layers",
        "interleave_moe_layer_step",
        "layer_rope_theta",
        "max_window_layers",
        "mlp_layer_types",
        "mlp_only_layers",
        "moe_layer_end_index",
        "moe_layer_interval",
        "moe_layer_start_index",
        "moe_layers",
        "no_rope_layer_interval",
        "no_rope_layers",
        "num_kv_shared_layers",
        "rope_scaling_layers",
        "sliding_window_pattern",
    }
)
# Lists that may by coincidence be as long as the decoder is deep.
_NOT_PER_LAYER = frozenset(
    {"architectures", "bos_token_id", "eos_token_id", "pad_token_id", "keys_to_ignore_at_inference"}
)


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration. Raises `InputError` in one sentence for every other model."""
    model_type = config.get("model_type")
    known = ", ".join(sorted(FAMILIES))
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    if model_type is None:
        rule = "the configuration names no model type"
    elif "vision_config" in config or "text_config" in config or "llm_config" in config:
        rule = "this vision-language family is not supported yet"
    else:
        rule = "is not a vision-language model that topovlm knows"
    raise InputError(explain("model_type", model_type, rule, f"Supported: {known}"))


def decoder_of(config: Mapping[str, Any], family: Family) -> Decoder:
    """The decoder type inside the family. Raises `InputError` when it is unknown."""
    text = config.get(family.text_key)
    if not isinstance(text, Mapping):
        rule = "is missing or not an object, so there is no decoder to prune"
        raise InputError(explain(family.text_key, text, rule, "Give a complete config.json"))
    model_type = text.get("model_type", "llama")  # transformers' own default for LLaVA
    if model_type not in family.decoders:
        rule = f"this decoder inside a {family.model_type} model is not supported yet"
        remedy = f"Supported: {', '.join(family.decoders)}"
        raise InputError(explain(f"{family.text_key}.model_type", model_type, rule, remedy))
    return DECODERS[model_type]


def layer_count(config: Mapping[str, Any], family: Family, decoder: Decoder) -> int:
    """Number of decoder layers; old configurations leave it out and mean the decoder's default."""
    value = config[family.text_key].get("num_hidden_layers", decoder.default_layers)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        field = f"{family.text_key}.num_hidden_layers"
        raise InputError(explain(field, value, "must be a whole number of at least 1"))
    return value


def refuse_unknown_layer_fields(config: Mapping[str, Any], family: Family, decoder: Decoder) -> None:
    """Raise `InputError` naming a field that is tied to layers in a way we do not know."""
    text = config[family.text_key]
    layers = layer_count(config, family, decoder)
    known = {*decoder.per_layer, *decoder.prefix_counts, *decoder.index_lists}
    for name, value in sorted(text.items()):
        field = f"{family.text_key}.{name}"
        if name in decoder.per_layer and value is not None:
            if not isinstance(value, list) or len(value) != layers:
                raise InputError(explain(field, value, f"must be a list with one entry per layer ({layers})"))
        elif name in known:
            continue
        elif name in INDEX_LIKE_FIELDS and value not in (None, 0, [], {}):
            rule = f"ties layers together in a way that is not known for {decoder.model_type} decoders"
            raise InputError(explain(field, value, rule, "Layers of this model cannot be removed safely"))
        elif isinstance(value, list) and len(value) == layers and name not in _NOT_PER_LAYER:
            rule = f"has one entry per layer ({layers}) and an unknown meaning"
            raise InputError(explain(field, value, rule, "Layers of this model cannot be removed safely"))
        elif isinstance(value, Mapping) and _keyed_by_layer(value, layers):
            rule = "is keyed by layer and has an unknown meaning"
            raise InputError(
                explain(field, sorted(value), rule, "Layers of this model cannot be removed safely")
            )


def _keyed_by_layer(value: Mapping[str, Any], layers: int) -> bool:
    keys: Iterable[str] = map(str, value)
    return bool(value) and all(key.isdigit() and int(key) < layers for key in keys)


def rewrite_config(
    config: Mapping[str, Any], family: Family, decoder: Decoder, kept: Sequence[int]
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """The configuration of the model that has only layers `kept` (ascending, 0-based, of the source).

    Returns the new configuration and the changed fields as {name: (before, after)}.
    """
    layers = layer_count(config, family, decoder)
    text = dict(config[family.text_key])
    updates: dict[str, Any] = {"num_hidden_layers": len(kept)}
    for name in decoder.per_layer:
        if text.get(name) is not None:
            updates[name] = [text[name][index] for index in kept]
    for name in decoder.prefix_counts:
        if text.get(name) is not None:
            # Counts beyond the depth occur in the wild; transformers refuses them after pruning.
            first = min(int(text[name]), layers)
            updates[name] = sum(index < first for index in kept)
    for name in decoder.index_lists:
        if text.get(name) is not None:
            updates[name] = [new for new, old in enumerate(kept) if old in text[name]]
    changes = {
        f"{family.text_key}.{name}": (text.get(name), value)
        for name, value in updates.items()
        if text.get(name) != value or name == "num_hidden_layers"
    }
    text.update(updates)
    return {**config, family.text_key: text}, changes


def protected_layers(layers: int, family: Family | None = None, extra: Collection[int] = ()) -> set[int]:
    """Layers that never go: by default the first three and the last two, one and one below eight layers.

    The early phase is where removals destroy a model, and the last layers read out (see Gromov et al.,
    arXiv 2403.17887, on the last).
    """
    first = family.protect_first if family else 3
    last = family.protect_last if family else 2
    if layers < 8:
        first, last = min(first, 1), min(last, 1)
    return {*range(min(first, layers)), *range(max(0, layers - last), layers), *extra}
