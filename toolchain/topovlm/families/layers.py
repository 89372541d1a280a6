"""What a configuration says about its layers, and what it must say when some are gone.

A decoder's record names the fields that are tied to layers. What is not written there is refused by name: a
guessed per-layer field gives a checkpoint that loads and is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import VISION_KEY, ModelConfig
from topovlm.families.family import Decoder, Family
from topovlm.records import Part

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


class Change(Part, frozen=True, kw_only=True):
    """One field of a configuration, before and after layers went."""

    before: Any
    after: Any


def layer_count(config: ModelConfig, family: Family, decoder: Decoder) -> int:
    """Number of decoder layers; old configurations leave it out and mean the decoder's default."""
    value = config[family.text_key].get("num_hidden_layers", decoder.defaults.get("num_hidden_layers"))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        field = f"{family.text_key}.num_hidden_layers"
        raise InputError(explain(field, value, "must be a whole number of at least 1"))
    return value


def refuse_unknown_layer_fields(config: ModelConfig, family: Family, decoder: Decoder) -> None:
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
    config: ModelConfig, family: Family, decoder: Decoder, kept: Sequence[int]
) -> tuple[ModelConfig, dict[str, Change]]:
    """The configuration of the model that has only layers `kept` (ascending, 0-based, of the source).

    Returns the new configuration and the changed fields by name.
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
        f"{family.text_key}.{name}": Change(before=text.get(name), after=value)
        for name, value in updates.items()
        if text.get(name) != value or name == "num_hidden_layers"
    }
    text.update(updates)
    return {**config, family.text_key: text}, changes


def tied_layers(config: ModelConfig, family: Family | None) -> frozenset[int]:
    """The first layers that read more than the residual stream: without them the others would move up."""
    if family is None or not family.tied_first:
        return frozenset()
    return frozenset(range(len((config.get(VISION_KEY) or {}).get(family.tied_first) or ())))


def refuse_tied_layers(config: ModelConfig, family: Family, dropped: Sequence[int]) -> None:
    """Raise `InputError` naming a layer that its family ties to its place."""
    for layer in sorted(tied_layers(config, family).intersection(dropped)):
        rule = f"is tied to its place: {VISION_KEY}.{family.tied_first} has an entry for it"
        raise InputError(explain("layer", layer, rule, "Choose other layers"))


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
