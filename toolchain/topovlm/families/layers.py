"""What a configuration says about its layers, and what it must say when some are gone.

A decoder's record names the fields that are tied to layers. What is not written there is refused by name: a
guessed per-layer field gives a checkpoint that loads and is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.catalogue import TOWERS
from topovlm.families.configs import VISION_KEY, ModelConfig
from topovlm.families.family import Decoder, Family
from topovlm.families.implied import implied_list, layer_list
from topovlm.families.limits import check_limits
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
        "per_layer_config",
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
    default = decoder.defaults.get("num_hidden_layers")
    value = family.decoder_part(config).get("num_hidden_layers", default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        field = family.decoder_field(config, "num_hidden_layers")
        raise InputError(explain(field, value, "must be a whole number of at least 1"))
    key = family.decoder_key(config)
    check_limits({key: {"num_hidden_layers": value}} if key else {"num_hidden_layers": value})
    return value


def shape_groups(config: ModelConfig, family: Family, decoder: Decoder) -> list[bool]:
    """Per layer, whether its MLP is a mixture of experts: layers of one kind have tensors of like shapes."""
    layers = layer_count(config, family, decoder)
    if decoder.experts is None:
        return [False] * layers
    dense = layer_list(decoder, family.decoder_part(config), layers, decoder.experts.dense) or []
    return [layer not in dense for layer in range(layers)]


def refuse_unknown_layer_fields(config: ModelConfig, family: Family, decoder: Decoder) -> None:
    """Raise `InputError` naming a field that is tied to layers in a way we do not know."""
    layers = layer_count(config, family, decoder)
    for name, value in sorted(family.decoder_part(config).items()):
        field = family.decoder_field(config, name)
        if name in decoder.depth_fields:
            rule = _misfit(name, value, decoder, layers)
            if rule:
                raise InputError(explain(field, value, rule))
            continue
        shown: Any = value
        if name in INDEX_LIKE_FIELDS and value not in (None, 0, [], {}):
            rule = f"ties layers together in a way that is not known for {decoder.model_type} decoders"
        elif isinstance(value, list) and len(value) == layers and name not in _NOT_PER_LAYER:
            rule = f"has one entry per layer ({layers}) and an unknown meaning"
        elif isinstance(value, Mapping) and _keyed_by_layer(value, layers):
            rule, shown = "is keyed by layer and has an unknown meaning", sorted(value)
        else:
            continue
        raise InputError(explain(field, shown, rule, "Layers of this model cannot be removed safely"))


def _misfit(name: str, value: Any, decoder: Decoder, layers: int) -> str:
    """What a field that is known to be tied to layers must be, where it is not; null stands for absence."""
    if value is None:
        return ""
    if name in decoder.per_layer and not (isinstance(value, list) and len(value) == layers):
        return f"must be a list with one entry per layer ({layers})"
    if name in decoder.index_lists and not (isinstance(value, list) and all(map(_is_whole, value))):
        return "must be a list of layers"
    if name in (*decoder.prefix_counts, *decoder.moduli) and not _is_whole(value):
        return "must be a whole number"
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _keyed_by_layer(value: Mapping[str, Any], layers: int) -> bool:
    keys: Iterable[str] = map(str, value)
    return bool(value) and all(re.fullmatch("[0-9]{1,9}", key) and int(key) < layers for key in keys)


def rewrite_config(
    config: ModelConfig, family: Family, decoder: Decoder, kept: Sequence[int]
) -> tuple[ModelConfig, dict[str, Change]]:
    """The configuration of the model that has only layers `kept` (ascending, 0-based, of the source).

    Each kept layer is of the kind it had: where that followed from its number and no longer does, it is
    written out. Returns the new configuration and the changed fields by name.
    """
    layers = layer_count(config, family, decoder)
    text = family.decoder_part(config)
    dense: ModelConfig = {**text, "num_hidden_layers": layers}
    slim = {**text, "num_hidden_layers": len(kept)}
    for name in (*decoder.per_layer, *decoder.index_lists):
        if text.get(name) is not None:
            slim[name] = _follow(decoder, name, text[name], kept)
    for name in decoder.prefix_counts:
        if text.get(name) is not None:
            # Counts beyond the depth occur in the wild; transformers refuses them after pruning.
            first = min(int(text[name]), layers)
            slim[name] = sum(index < first for index in kept)
    for name in decoder.implied:
        slim = _written_out(decoder, name, dense, slim, kept)
    changes = {
        family.decoder_field(config, name): Change(before=text.get(name), after=slim.get(name))
        for name in dict.fromkeys((*text, *slim))
        if text.get(name) != slim.get(name) or name == "num_hidden_layers"
    }
    key = family.decoder_key(config)
    if not key:
        return slim, changes
    whole = {**config, key: slim}
    if config.get("num_hidden_layers") == layers:  # PaliGemma 2 repeats it at the top
        whole["num_hidden_layers"] = len(kept)
        changes["num_hidden_layers"] = Change(before=layers, after=len(kept))
    return whole, changes


def _follow(decoder: Decoder, name: str, value: Sequence[Any], kept: Sequence[int]) -> list[Any]:
    """What a list says of the kept layers."""
    if name in decoder.index_lists:
        return [new for new, old in enumerate(kept) if old in value]
    return [value[index] for index in kept]


def _written_out(
    decoder: Decoder, name: str, dense: ModelConfig, slim: dict[str, Any], kept: Sequence[int]
) -> dict[str, Any]:
    """`slim` with the list `name` stated where it no longer follows, without moduli that no longer hold."""

    def stated(fields: ModelConfig) -> list[Any]:
        return layer_list(decoder, fields, fields["num_hidden_layers"], name) or []

    def implied(fields: ModelConfig) -> list[Any]:
        others = {key: value for key, value in fields.items() if key != name}
        return implied_list(decoder, others, fields["num_hidden_layers"], name) or []

    wanted = _follow(decoder, name, stated(dense), kept)
    relied = implied(dense) == stated(dense)
    if stated(slim) == wanted and (implied(slim) == wanted or not relied):
        return slim
    written = {**slim, name: wanted}
    if relied or stated(written) != wanted:
        return {field: value for field, value in written.items() if field not in decoder.moduli}
    return written


def tied_layers(config: ModelConfig, family: Family | None) -> frozenset[int]:
    """The first layers that read more than the residual stream: without them the others would move up."""
    if family is None or not family.tied_first:
        return frozenset()
    vision = config.get(VISION_KEY)
    stated = {**TOWERS[family.default_tower].defaults, **(vision if isinstance(vision, Mapping) else {})}
    indexes = stated.get(family.tied_first)
    return frozenset(range(len(indexes))) if isinstance(indexes, (list, tuple)) else frozenset()


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
