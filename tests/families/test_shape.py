"""Sizes read from config.json: against published parameter counts, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.families.catalogue import FAMILIES, families_that
from topovlm.families.known_models import find_known_model, known_model, list_known_models
from topovlm.families.sizes import read_shape

EXPECTED = (
    "llava-next-8b",
    "llava-onevision-0.5b",
    "llava-onevision-7b",
    "qwen2.5-vl-3b",
    "qwen2.5-vl-7b",
    "qwen3-vl-2b",
    "qwen3-vl-4b",
    "qwen3-vl-8b",
    "smolvlm2-256m",
    "smolvlm2-500m",
    "smolvlm2-2.2b",
    "internvl3-1b",
    "internvl3-2b",
    "internvl3-8b",
    "paligemma2-3b",
    "gemma3-4b",
    "video-llava-7b",
    "videollama3-2b",
    "videollama2-7b",
    "videollama2-7b-16f",
)


@pytest.mark.parametrize("name", EXPECTED)
def test_sizes_add_up_to_the_published_parameter_count(name: str) -> None:
    """Decoder, embeddings, tower and projector together: within 1 % of what the model page states."""
    model = known_model(name)
    shape = model.shape()
    assert shape.vision is not None
    decoder = shape.decoder
    embeddings = decoder.head_params * (1 if decoder.tied else 2)
    total = decoder.layers * decoder.linear_params_per_layer + embeddings + shape.vision.params
    assert total / 1e9 == pytest.approx(model.parameters_b, rel=0.01)


def _built_by_transformers(name: str) -> bool:
    return FAMILIES[name].default_tower != "timm_wrapper" and not FAMILIES[name].native


@pytest.mark.parametrize("name", filter(_built_by_transformers, families_that("plan")))
def test_sizes_add_up_to_what_transformers_builds(name: str) -> None:
    """From the default configuration of every family: all weights within 1 %, those of the layers exactly."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config: Any = AutoConfig.for_model(name)
    auto: Any = AutoModelForCausalLM if FAMILIES[name].text_only else AutoModelForImageTextToText
    with torch.device("meta"):
        model = auto.from_config(config)
    shape = read_shape(config.to_dict())
    decoder = shape.decoder
    layers = decoder.layers * decoder.linear_params_per_layer
    matrices = (p.numel() for p in model.get_decoder().layers.parameters() if p.ndim > 1)
    assert layers == sum(matrices)
    embeddings = decoder.head_params * (1 if decoder.tied else 2)
    total = layers + embeddings + (shape.vision.params if shape.vision else 0)
    assert total == pytest.approx(model.num_parameters(), rel=0.01)


def test_a_mixture_of_experts_is_stored_whole_and_used_in_part() -> None:
    """Qwen3-VL-30B-A3B: 30 billion weights are kept, 3 billion are read per token, more for more tokens."""
    text = {
        "model_type": "qwen3_vl_moe_text",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_hidden_layers": 48,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    }
    config = {"model_type": "qwen3_vl_moe", "tie_word_embeddings": False, "text_config": text}
    vision = {"model_type": "qwen3_vl_moe", "out_hidden_size": 2048}
    decoder = read_shape({**config, "vision_config": vision}).decoder
    embeddings = 2 * decoder.head_params
    assert 48 * decoder.linear_params_per_layer + embeddings == pytest.approx(30.5e9, rel=0.01)
    assert 48 * decoder.used_params_per_layer() + embeddings == pytest.approx(3.3e9, rel=0.02)
    assert decoder.used_params_per_layer(4) < decoder.used_params_per_layer(100)
    assert decoder.used_params_per_layer(100) == decoder.linear_params_per_layer
    half = {**config, "text_config": {**text, "decoder_sparse_step": 2}, "vision_config": vision}
    assert read_shape(half).decoder.sparse_share == 0.5
    none = {**config, "text_config": {**text, "num_experts": 0}, "vision_config": vision}
    dense = read_shape(none).decoder
    assert dense.used_params_per_layer() == dense.linear_params_per_layer < 60e6


def test_known_models_are_found_by_id_alias_and_hub_id() -> None:
    """Any case; an unknown name suggests near ones."""
    assert {model.id for model in list_known_models()} >= set(EXPECTED)
    assert known_model("Qwen/Qwen3-VL-2B-Instruct").id == "qwen3-vl-2b"
    assert known_model("GEMMA3").id == "gemma3-4b"
    assert find_known_model("no-such-model") is None
    with pytest.raises(InputError, match=r"qwen3-vl-3b.*qwen3-vl"):
        known_model("qwen3-vl-3b")


def test_defaults_fill_what_a_config_leaves_out() -> None:
    """LLaVA-1.5 style: the text part names only its type, the tower stops at the layer that is read."""
    config = {
        "model_type": "llava",
        "text_config": {"model_type": "llama"},
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 24, "image_size": 336},
    }
    shape = read_shape(config)
    assert (shape.decoder.layers, shape.decoder.hidden, shape.decoder.vocab) == (32, 4096, 32000)
    assert shape.vision is not None
    assert shape.vision.layers == 23
    assert shape.drop_first_token


def test_sliding_layers_are_counted_from_list_or_pattern() -> None:
    """Five of six Gemma 3 layers see a window; an explicit list wins."""
    config = known_model("gemma3-4b").config
    assert read_shape(config).decoder.sliding_share == pytest.approx(29 / 34)
    listed = {
        **config,
        "text_config": {**config["text_config"], "layer_types": ["full_attention", "sliding_attention"] * 17},
    }
    assert read_shape(listed).decoder.sliding_share == 0.5


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (
            {"model_type": "llava", "text_config": {"model_type": "llama", "num_experts": 8}},
            "num_experts = 8",
        ),
        ({"model_type": "gpt9"}, "hidden_size"),
        ({"model_type": "qwen2", "hidden_size": -4, "num_hidden_layers": 2}, "hidden_size = -4"),
        (
            {"model_type": "martian", "text_config": {"model_type": "llama"}, "vision_config": {}},
            "model_type = 'martian'",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(config: dict[str, object], names: str) -> None:
    """Field and value in the message, no guess."""
    with pytest.raises(InputError, match=names):
        read_shape(config)


@pytest.mark.parametrize("value", ["x", ["x"], {"a": 1}, [1, 2]])
@pytest.mark.parametrize("field", ["num_key_value_heads", "head_dim"])
def test_sizes_of_a_wrong_type_are_refused(field: str, value: object) -> None:
    """Optional sizes, too: never a traceback."""
    config = {"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, field: value}
    with pytest.raises(InputError, match=field):
        read_shape(config)


def test_a_configuration_is_completed_as_transformers_would() -> None:
    """LLaVA-1.5-7b leaves its decoder's sizes out; those filled in are transformers' own, the rest stays."""
    from transformers import AutoConfig

    from topovlm.families.sizes import completed

    text = {
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "vocab_size": 32064,
        "rms_norm_eps": 1e-05,
    }
    vision = {"model_type": "clip_vision_model", "hidden_size": 1024, "num_attention_heads": 16}
    config = {"model_type": "llava", "text_config": text, "vision_config": vision, "image_token_index": 32000}
    filled = completed(config)
    assert {**filled, "text_config": text} == config
    assert filled["text_config"].items() >= text.items()
    known = AutoConfig.for_model(
        "llava", text_config=dict(text), vision_config=dict(vision)
    ).text_config.to_dict()
    added = filled["text_config"].keys() - text.keys()
    assert {"num_hidden_layers", "num_key_value_heads", "hidden_size", "num_attention_heads"} <= added
    assert {name: filled["text_config"][name] for name in added} == {name: known[name] for name in added}
    flat = {"model_type": "qwen2", "num_hidden_layers": 3}
    assert completed(flat).items() >= {"num_hidden_layers": 3, "hidden_size": 4096}.items()
