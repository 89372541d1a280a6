"""Towers on another device than the processor: the torch engine runs them on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.tiny_families.configs import FAMILIES, config_for
from tests.tiny_families.original import model_of
from tests.tiny_families.words import WORDS, tokenizer_for
from topovlm.families.torch_parts import parts_of
from topovlm.towers.vision import vision_of

MAKERS = (torch.arange, torch.zeros, torch.ones, torch.tensor, torch.empty, torch.full)


class _Placed(TorchFunctionMode):
    """Nothing is made without saying where: it would be on the processor."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert func not in MAKERS or (kwargs or {}).get("device") is not None, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FAMILIES)
def test_all_of_a_tower_is_where_the_model_is(name: str) -> None:
    """Its buffers, and what it makes as it runs."""
    words = WORDS[name]
    config = config_for(name, words, tokenizer_for(words), 2)
    model = model_of(config).to("meta")
    module: Any = vision_of(parts_of(model))
    assert {value.device.type for value in (*module.parameters(), *module.buffers())} == {"meta"}
    given = {name: value.to("meta") for name, value in module.samples().items()}
    with torch.no_grad(), _Placed():
        module(**given)
