"""Rewritten configurations, asked of transformers: each kept layer is of the kind it was.

The oracle is the decoder that transformers builds from either configuration, layer by layer.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.families.catalogue import FAMILIES, decoder_of, families_that
from topovlm.families.facts import ModelFacts
from topovlm.families.layers import layer_count, refuse_unknown_layer_fields, rewrite_config

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
KINDS = st.sampled_from(["full_attention", "sliding_attention"])
WINDOW = {
    "use_sliding_window": st.booleans(),
    "sliding_window": st.sampled_from([None, 8]),
    "max_window_layers": st.integers(0, 40),
}
# What a configuration may say or leave out, besides the list of kinds.
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    **dict.fromkeys(("qwen2", "qwen3", "qwen2_vl_text", "qwen2_5_vl_text"), WINDOW),
    "gemma2": {"sliding_window": st.just(8)},
    "gemma3_text": {
        "sliding_window": st.just(8),
        "sliding_window_pattern": st.integers(1, 7),
        "_sliding_window_pattern": st.just(6),
    },
    "smollm3": {
        "no_rope_layer_interval": st.integers(1, 5),
        "use_sliding_window": st.booleans(),
        "sliding_window": st.sampled_from([None, 8]),
        "max_window_layers": st.just(28),
    },
    "qwen3_vl_moe_text": {
        "decoder_sparse_step": st.integers(1, 4),
        "mlp_only_layers": st.sampled_from([[], [0], [1], [0, 1]]),
    },
    "mistral": {"sliding_window": st.sampled_from([None, 8])},
}
LISTED = {kind for kind in FIELDS if kind not in ("qwen3_vl_moe_text", "mistral")}
CASES = [
    *((name, name) for name in sorted(families_that("prune")) if FAMILIES[name].text_only),
    ("llava", "smollm3"),
    ("paligemma", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("qwen2_vl", "qwen2_vl_text"),
    ("qwen2_5_vl", "qwen2_5_vl_text"),
    ("qwen3_vl", "qwen3_vl_text"),
    ("qwen3_vl_moe", "qwen3_vl_moe_text"),
]


def _kinds(config: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of each decoder layer that transformers builds: its mask, its window, its positions, its MLP."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel

    text = CONFIG_MAPPING[config["model_type"]].from_dict(config).get_text_config()
    with torch.device("meta"):
        blocks: Any = AutoModel.from_config(text).layers
    masks = getattr(text, "layer_types", None) or [None] * len(blocks)
    attention = [block.self_attn for block in blocks]
    return [
        (mask, getattr(a, "sliding_window", None), getattr(a, "use_rope", None), type(block.mlp).__name__)
        for mask, a, block in zip(masks, attention, blocks, strict=True)
    ]


@st.composite
def _configs(draw: st.DrawFn, name: str, decoder: str) -> dict[str, Any]:
    layers = draw(st.integers(2, 12))
    text = {**SIZES, "num_hidden_layers": layers, **(EXPERTS if "moe" in decoder else {})}
    text |= draw(st.fixed_dictionaries({}, optional=FIELDS.get(decoder, {})))
    if decoder in LISTED and draw(st.booleans()):
        text["layer_types"] = draw(st.lists(KINDS, min_size=layers, max_size=layers))
        if "sliding_attention" in text["layer_types"]:
            text |= {"use_sliding_window": True, "sliding_window": 8}
    if decoder == "smollm3" and draw(st.booleans()):
        text["no_rope_layers"] = draw(st.lists(st.integers(0, 1), min_size=layers, max_size=layers))
    if FAMILIES[name].text_only or (FAMILIES[name].flat and draw(st.booleans())):
        return {"model_type": name, **text} | ({} if FAMILIES[name].text_only else {"vision_config": {}})
    return {"model_type": name, "text_config": {"model_type": decoder, **text}, "vision_config": {}}


@pytest.mark.parametrize(("name", "decoder"), CASES, ids=str)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_each_kept_layer_is_of_the_kind_it_was(name: str, decoder: str, data: st.DataObject) -> None:
    """Whatever a configuration states or implies, and whichever layers go; twice over, too."""
    config = data.draw(_configs(name, decoder))
    family = FAMILIES[name]
    kinds, record = _kinds(config), decoder_of(config, family)
    for _ in range(2):
        layers = layer_count(config, family, record)
        kept = sorted(data.draw(st.sets(st.integers(0, layers - 1), min_size=1)))
        refuse_unknown_layer_fields(config, family, record)
        config, changes = rewrite_config(config, family, record, kept)
        kinds = [kinds[layer] for layer in kept]
        assert _kinds(config) == kinds
        assert layer_count(config, family, record) == len(kept)
        assert family.decoder_field(config, "num_hidden_layers") in changes


@pytest.mark.parametrize(("name", "decoder"), CASES, ids=str)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_nothing_goes_so_nothing_changes(name: str, decoder: str, data: st.DataObject) -> None:
    """With every layer kept the configuration says what it said, in the same words."""
    config = data.draw(_configs(name, decoder))
    record = decoder_of(config, FAMILIES[name])
    layers = layer_count(config, FAMILIES[name], record)
    after, _ = rewrite_config(config, FAMILIES[name], record, range(layers))
    if (text := FAMILIES[name].decoder_part(config)).get("max_window_layers", 0) > layers:
        assert FAMILIES[name].decoder_part(after) == {**text, "max_window_layers": layers}
    else:
        assert after == config


@pytest.mark.parametrize(
    ("decoder", "fields", "kept", "written", "gone"),
    [
        ("gemma2", {}, (0, 1, 4, 5), {}, ()),
        ("gemma2", {}, (0, 1, 3), {"layer_types": ["sliding_attention"] + ["full_attention"] * 2}, ()),
        (
            "gemma3_text",
            {"sliding_window_pattern": 2},
            (1, 2, 3),
            {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            ("sliding_window_pattern",),
        ),
        ("smollm3", {"no_rope_layer_interval": 4}, (0, 1, 2, 3, 4), {"no_rope_layer_interval": 4}, ()),
        (
            "smollm3",
            {"no_rope_layer_interval": 2},
            (0, 1, 3),
            {"no_rope_layers": [1, 0, 0]},
            ("no_rope_layer_interval",),
        ),
        (
            "qwen3_vl_moe_text",
            {"decoder_sparse_step": 2, "mlp_only_layers": [5]},
            (1, 3, 4, 5),
            {"mlp_only_layers": [2, 3]},
            ("decoder_sparse_step",),
        ),
    ],
)
def test_a_modulus_that_no_longer_holds_becomes_a_list(
    decoder: str,
    fields: dict[str, Any],
    kept: tuple[int, ...],
    written: dict[str, Any],
    gone: tuple[str, ...],
) -> None:
    """And goes itself, so that no reader takes its word; where it still holds, nothing is written."""
    name = "qwen3_vl_moe" if "moe" in decoder else "llava"
    text = {"model_type": decoder, "num_hidden_layers": 6, "sliding_window": 8, **fields}
    config = {"model_type": name, "text_config": text, "vision_config": {}}
    after, changes = rewrite_config(config, FAMILIES[name], decoder_of(config, FAMILIES[name]), kept)
    kept_fields = {field: value for field, value in text.items() if field not in gone}
    assert after["text_config"] == {**kept_fields, "num_hidden_layers": len(kept), **written}
    assert all(changes[f"text_config.{field}"].after is None for field in gone)


@pytest.mark.parametrize("layers", [36, 28])
def test_flat_configurations_are_read_and_rewritten_in_place(layers: int) -> None:
    """Qwen2.5-VL as published: the decoder's fields stand at the top, and stay there."""
    config = {
        "model_type": "qwen2_5_vl",
        "hidden_size": 2048,
        "num_attention_heads": 16,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "max_window_layers": 70,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "vision_config": {"model_type": "qwen2_5_vl", "hidden_size": 1280, "out_hidden_size": 2048},
    }
    family = FAMILIES["qwen2_5_vl"]
    after, changes = rewrite_config(config, family, decoder_of(config, family), range(layers - 4))
    assert after == {**config, "num_hidden_layers": layers - 4, "max_window_layers": layers - 4}
    assert set(changes) == {"num_hidden_layers", "max_window_layers"}
    assert ModelFacts(after).layers == layers - 4
    nested = {"model_type": "qwen2_5_vl", "text_config": {"num_hidden_layers": 3}, "vision_config": {}}
    assert layer_count(nested, family, decoder_of(nested, family)) == 3


def test_a_decoder_that_is_no_object_is_refused() -> None:
    """Where the fields may be at the top only absence sends us there."""
    config = {"model_type": "qwen2_vl", "text_config": "x", "vision_config": {}}
    with pytest.raises(InputError, match="text_config = 'x': is missing or not an object"):
        decoder_of(config, FAMILIES["qwen2_vl"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mlp_only_layers", 3),
        ("mlp_only_layers", ["x"]),
        ("decoder_sparse_step", "2"),
        ("layer_types", "full_attention"),
        ("per_layer_config", {"3": {"sliding_window": 4}}),
    ],
)
def test_fields_of_a_wrong_type_are_refused_by_name(field: str, value: object) -> None:
    """Never a traceback."""
    text = {"model_type": "qwen3_vl_moe_text", "num_hidden_layers": 4, field: value}
    config = {"model_type": "qwen3_vl_moe", "text_config": text, "vision_config": {}}
    with pytest.raises(InputError, match=field):
        refuse_unknown_layer_fields(
            config, FAMILIES["qwen3_vl_moe"], decoder_of(config, FAMILIES["qwen3_vl_moe"])
        )
