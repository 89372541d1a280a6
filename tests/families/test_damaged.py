"""Configurations with a field of a wrong type: refused by name, or read; never a traceback."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoint.layouts import IDS, layout
from topovlm.errors import InputError
from topovlm.families.catalogue import decoder_of, family_of, origins_of
from topovlm.families.facts import ModelFacts
from topovlm.families.layers import layer_count, refuse_unknown_layer_fields, rewrite_config, shape_groups

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([10**5, 10**9, 2**63, -(10**20), 1e308, math.nan, math.inf, 1.5, [10**9], [-1, 3]]),
    st.sampled_from(["x", "", 0.5, [], [1], ["x"], [[1]], {}, {"a": 1}, {"0": 1}]),
)


def _ask(config: dict[str, Any]) -> None:
    facts = ModelFacts(config)
    origins_of(config)
    facts.visual_tokens(facts.workload())
    facts.protected_layers()
    family = family_of(config)
    decoder = decoder_of(config, family)
    layers = layer_count(config, family, decoder)
    shape_groups(config, family, decoder)
    refuse_unknown_layer_fields(config, family, decoder)
    rewrite_config(config, family, decoder, range(layers - 1))


@pytest.mark.parametrize("name", IDS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_field_is_no_traceback(name: str, data: st.DataObject) -> None:
    """Any field of the top, the decoder or the tower."""
    config = copy.deepcopy(layout(name).config)
    part = data.draw(st.sampled_from([config, config.get("text_config", config), config["vision_config"]]))
    more = [
        "layer_types",
        "sliding_window",
        "image_token_id",
        "vision_feature_layer",
        "mlp_ratio",
        "max_window_layers",
        "sliding_window_pattern",
        "head_dim",
    ]
    field = data.draw(st.sampled_from([*part, *more]))
    part[field] = data.draw(VALUES)
    with contextlib.suppress(InputError):
        _ask(config)
