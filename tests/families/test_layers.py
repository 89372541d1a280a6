"""Family facts: per-layer fields follow the kept layers, unknown ones are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.families.catalogue import DECODERS, FAMILIES
from topovlm.families.layers import (
    INDEX_LIKE_FIELDS,
    layer_count,
    protected_layers,
    refuse_unknown_layer_fields,
    rewrite_config,
)

LLAVA = FAMILIES["llava"]
QWEN2 = DECODERS["qwen2"]


def _config(layers: int, **text: Any) -> dict[str, Any]:
    return {
        "model_type": "llava",
        "text_config": {"model_type": "qwen2", "num_hidden_layers": layers, **text},
    }


@given(data=st.data(), layers=st.integers(2, 24))
def test_rewritten_fields_describe_the_kept_layers(data: st.DataObject, layers: int) -> None:
    """layer_types and max_window_layers say of every kept layer what they said before."""
    types = data.draw(
        st.lists(st.sampled_from(["full_attention", "sliding_attention"]), min_size=layers, max_size=layers)
    )
    window = data.draw(st.integers(0, layers + 5))
    kept = sorted(data.draw(st.sets(st.integers(0, layers - 1), min_size=1)))
    before = _config(layers, layer_types=types, max_window_layers=window, hidden_size=7)
    after, changes = rewrite_config(before, LLAVA, QWEN2, kept)
    text = after["text_config"]
    assert text["num_hidden_layers"] == len(text["layer_types"]) == len(kept)
    for new, old in enumerate(kept):
        assert text["layer_types"][new] == types[old]
        assert (new < text["max_window_layers"]) == (old < window)
    assert text["max_window_layers"] <= len(kept)
    assert text["hidden_size"] == 7
    assert "text_config.num_hidden_layers" in changes
    assert before["text_config"]["num_hidden_layers"] == layers


def test_absent_and_null_fields_stay_absent() -> None:
    """Nothing is invented except the layer count, which old configurations leave out."""
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    assert layer_count(config, LLAVA, DECODERS["llama"]) == 32
    after, _ = rewrite_config(config, LLAVA, DECODERS["llama"], list(range(30)))
    assert after["text_config"] == {"model_type": "llama", "num_hidden_layers": 30}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mystery_per_layer", list(range(6))),
        ("intermediate_size", [8] * 6),
        ("layer_types", ["full_attention"] * 5),
        ("num_kv_shared_layers", 2),
        ("no_rope_layers", [1, 0]),
        ("sliding_window_pattern", 6),
        ("per_layer_scale", {str(layer): 1.0 for layer in range(6)}),
    ],
)
def test_fields_tied_to_layers_in_an_unknown_way_are_refused_by_name(field: str, value: object) -> None:
    """The message names the field; nothing is guessed."""
    with pytest.raises(InputError, match=field):
        refuse_unknown_layer_fields(_config(6, **{field: value}), LLAVA, QWEN2)


def test_empty_or_coincidental_fields_are_no_reason_to_refuse() -> None:
    """Unset index-like fields and token lists as long as the decoder is deep are fine."""
    empty = dict.fromkeys(sorted(INDEX_LIKE_FIELDS - {"max_window_layers"}))
    refuse_unknown_layer_fields(_config(6, eos_token_id=[1, 2, 3, 4, 5, 6], **empty), LLAVA, QWEN2)


def test_protected_layers_are_the_ends() -> None:
    """First three and last two; one and one in a shallow model; the caller's own besides."""
    assert protected_layers(16, LLAVA) == {0, 1, 2, 14, 15}
    assert protected_layers(6) == {0, 5}
    assert protected_layers(16, extra=[7]) == {0, 1, 2, 7, 14, 15}
    assert protected_layers(1) == {0}
