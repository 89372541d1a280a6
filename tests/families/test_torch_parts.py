"""Where the parts of a loaded model are, family by family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from topovlm.families.catalogue import FAMILIES
from topovlm.families.torch_parts import parts_of

STAND_IN = {"model_type": "siglip_vision_model", "model_args": {"embed_dim": 768}}


@pytest.mark.parametrize("name", sorted(name for name in FAMILIES if not FAMILIES[name].native))
def test_transformers_says_where_the_decoder_is(name: str) -> None:
    """For every family that is known, also those that are only planned today: no record repeats it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    few = {"num_hidden_layers": 2}
    if FAMILIES[name].text_only:
        config, auto = AutoConfig.for_model(name, **few), AutoModelForCausalLM
    else:
        # The package timm may be absent: any tower does where the decoder is asked for.
        other = {"vision_config": STAND_IN} if FAMILIES[name].default_tower == "timm_wrapper" else {}
        config, auto = AutoConfig.for_model(name, text_config=few, **other), AutoModelForImageTextToText
    with torch.device("meta"):
        model: Any = auto.from_config(config)
    parts = parts_of(model)
    assert len(parts.blocks) == 2
    assert parts.embedding.weight.shape == parts.head.weight.shape
    assert parts.norm.weight.shape == parts.embedding.weight.shape[1:]
    assert parts.rotary in set(parts.stack.children())
    assert (parts.decoder_shape().layers, parts.decoder.model_type) == (2, parts.text.model_type)
    if parts.family.modules is not None:
        assert sum(p.numel() for p in parts.tower.parameters()) > 0
        assert sum(p.numel() for p in parts.projector.parameters()) > 0
