"""The tiny families are what they claim: what a family has beyond Llama is there, and matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny_families
from topovlm.checkpoint.live import collate, encode, last_stream_and_logits, load
from topovlm.checkpoint.verify import relative_difference

_WIDE = {"sliding_window": 4096}
# (family, part, what it is without its peculiarity)
PECULIAR: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("qwen2", "text", _WIDE),
    ("mistral", "text", _WIDE),
    ("gemma2", "text", _WIDE),
    ("gemma2", "text", {"final_logit_softcapping": 1e6}),
    ("gemma3_text", "text", _WIDE),
    ("gemma3_text", "text", {"layer_types": ["full_attention"] * 8}),
    ("smollm3", "text", {"no_rope_layers": [1] * 8}),
    ("llava-pixtral-mistral", "text", _WIDE),
    ("qwen2_vl", "text", {"rope_parameters": {"rope_theta": 10000.0, "mrope_section": [8, 0, 0]}}),
    ("qwen2_5_vl", "vision", {"window_size": 1024}),
    ("qwen3_vl", "text", {"rope_parameters": {"rope_theta": 10000.0, "mrope_section": [8, 0, 0]}}),
    ("qwen3_vl", "vision", {"deepstack_visual_indexes": [2, 0]}),
    ("paligemma2", "text", _WIDE),
    ("gemma3", "text", _WIDE),
)


def _logits(folder: Path, name: str, **changes: Any) -> Any:
    live = load(tiny_families.build(folder, name, **changes))
    samples = tiny_families.sample(name, 2, 1)
    return last_stream_and_logits(live, collate(live, [encode(live, sample) for sample in samples]))[1]


@pytest.mark.parametrize(("name", "part", "changes"), PECULIAR)
def test_what_is_peculiar_matters(name: str, part: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Without a family's window, kinds of layers, positions or DeepStack its logits are others."""
    usual, other = _logits(tmp_path / "a", name), _logits(tmp_path / "b", name, **{part: changes})
    assert relative_difference(other, usual) > 0.01


def test_the_same_seed_is_the_same_checkpoint(tmp_path: Path) -> None:
    """Weights depend on seed and name alone; a field that is None is left out of config.json."""
    first = tiny_families.build(tmp_path / "a", "qwen3_vl", layers=3)
    again = tiny_families.build(tmp_path / "b", "qwen3_vl", layers=3)
    other = tiny_families.build(tmp_path / "c", "qwen3_vl", layers=3, seed=1)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, again, other)]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("name", tiny_families.NAMES)
def test_samples_have_pictures_of_two_sizes(name: str) -> None:
    """None for a text-only model; questions differ in length."""
    samples = tiny_families.sample(name, 4, images=2)
    sizes = {picture.size for sample in samples for picture in sample.load_images()}
    assert sizes == (set() if name in tiny_families.TEXT_ONLY else set(tiny_families.SIZES))
    assert len({len(sample.prompt) for sample in samples}) == 4
