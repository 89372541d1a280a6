"""Rules of a decoder: masks and positions against transformers' own, and what makes layers of one kind."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from topovlm.errors import InputError
from topovlm.exporters.onnx.rules import FULL, SLIDING, Rules, layer_kind, refuse_text, rules_of

if TYPE_CHECKING:
    from topovlm.families.torch_parts import TorchParts

WINDOW = 3
RULES = Rules((FULL, SLIDING), WINDOW, rows=1, mask="causal", rotary_by_kind=False, stacked=0)


@pytest.fixture(scope="module")
def parts(tiny_siglip_qwen2: Path) -> TorchParts:
    """Of a SigLIP + Qwen2 model."""
    from topovlm.checkpoint.live import load

    return load(tiny_siglip_qwen2).parts


def _oracle(parts: TorchParts, kind: str, given: dict[str, Any], blocks: Any) -> np.ndarray:
    """bool `[batch, seq, past + seq]`: what transformers' own masks let a token see."""
    from transformers import DynamicCache
    from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

    config = copy.deepcopy(parts.text)
    config._attn_implementation, config.sliding_window = "eager", WINDOW
    make = create_sliding_window_causal_mask if kind == SLIDING else create_causal_mask
    cache = DynamicCache()
    past = given["attention_mask"].shape[1] - given["inputs_embeds"].shape[1]
    if past:
        import torch

        held = torch.zeros(len(given["inputs_embeds"]), 2, past, 16)
        for layer in range(2):
            cache.update(held, held, layer)
    more = {}
    if blocks is not None:
        more["or_mask_function"] = lambda b, h, q, k: (blocks[b, q] == blocks[b, k]) & (blocks[b, q] > 0)
    known = inspect.signature(inspect.unwrap(make)).parameters
    name = "cache" if "cache" in known else "past_key_values"
    found = make(
        config=config,
        inputs_embeds=given["inputs_embeds"],
        attention_mask=given["attention_mask"],
        position_ids=None,
        **{name: cache},
        **more,
    )
    shown: np.ndarray = (found[:, 0] == 0).numpy()
    return shown


@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize("blocks", [False, True])
def test_masks_are_those_of_transformers(parts: TorchParts, past: int, blocks: bool) -> None:
    """Causal and with a window, padded on the left, with and without a past, pictures whole or not."""
    import torch

    from topovlm.exporters.onnx.modules import Prelude

    new = 8
    embeds = torch.zeros(2, new, 64)
    attention = torch.ones(2, past + new, dtype=torch.long)
    attention[1, :2] = 0
    ids = None
    if blocks:
        ids = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 2, 2, 2]])
    rules = replace(RULES, mask="blocks" if blocks else "causal")
    given = {"inputs_embeds": embeds, "attention_mask": attention}
    positions = torch.arange(past, past + new).expand(2, -1)
    prelude = Prelude(parts, rules)
    found = dict(zip(prelude.outputs, prelude(embeds, attention, positions, ids), strict=True))
    padded = None if ids is None else torch.nn.functional.pad(ids, (past, 0))
    for kind in rules.kinds:
        seen = (found[f"mask.{kind}"][:, 0] == 0).numpy()
        want = _oracle(parts, kind, given, padded)
        real = attention[:, past:].bool().numpy()  # rows of padding are read by nobody
        np.testing.assert_array_equal(seen[real], want[real])
    assert (found[f"mask.{FULL}"] != found[f"mask.{SLIDING}"]).any()


def test_the_record_of_a_family_decides(parts: TorchParts) -> None:
    """Positions by grid have three rows; where the prompt sees itself whole, the graph is told the blocks."""
    rules = rules_of(parts)
    assert (rules.rows, rules.blocks) == (1, False)
    grid = rules_of(replace(parts, family=msgspec.structs.replace(parts.family, positions="grid")))
    assert (grid.rows, grid.blocks) == (3, False)
    prefix = rules_of(replace(parts, family=msgspec.structs.replace(parts.family, mask="prefix")))
    assert (prefix.rows, prefix.blocks) == (1, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"layer_types": [FULL, "chunked_attention"]}, r"text_config\.layer_types = \['chunked_attention'\]"),
        (
            {"rope_parameters": {"rope_type": "dynamic"}},
            r"text_config\.rope_parameters\.rope_type = 'dynamic'",
        ),
        ({"rope_parameters": {FULL: {"rope_type": "longrope"}}}, "'longrope'"),
    ],
)
def test_what_no_graph_holds_is_refused(text: dict[str, Any], message: str) -> None:
    """Attention without a mask here, and frequencies that change with the prompt, of any kind of layer."""
    with pytest.raises(InputError, match=message):
        refuse_text(text, "text_config")
    refuse_text({"layer_types": [FULL, SLIDING], "rope_parameters": {"rope_type": "llama3"}}, "text_config")


def test_layers_of_one_kind_differ_in_weights_alone(parts: TorchParts) -> None:
    """The place and the weights do not count; a size, a plain setting, attention or code do."""
    first, second = parts.blocks[0], parts.blocks[1]
    kind = layer_kind(first, FULL)
    assert layer_kind(second, FULL) == kind
    assert layer_kind(first, SLIDING) != kind

    def changed(path: str, name: str, value: Any) -> str:
        layer = copy.deepcopy(first)
        setattr(layer.get_submodule(path), name, value)
        return layer_kind(layer, FULL)

    import torch

    assert changed("self_attn", "scaling", 0.5) != kind
    assert changed("input_layernorm", "variance_epsilon", 0.5) != kind
    assert changed("mlp", "gate_proj", torch.nn.Linear(64, 96, bias=False)) != kind
    assert changed("mlp", "act_fn", torch.nn.GELU()) != kind
    assert changed("self_attn", "layer_idx", 40) == kind
