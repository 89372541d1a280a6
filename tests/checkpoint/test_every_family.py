"""Surgery on every family: the reloaded checkpoint is the dense model with those layers bypassed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.checkpoint.small import small_model
from topovlm.checkpoint.files import SINGLE
from topovlm.checkpoint.loading import load_model
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.families.catalogue import FAMILIES, families_that
from topovlm.families.torch_parts import parts_of

DROP = (2, 4)
CASES = [
    *((name, FAMILIES[name].default_decoder) for name in families_that("prune")),
    *(("llava", decoder) for decoder in FAMILIES["llava"].decoders[1:]),
    ("paligemma", "gemma2"),
]


class _Through(nn.Module):
    def forward(self, hidden: torch.Tensor, *_args: Any, **_more: Any) -> torch.Tensor:
        return hidden


def _write(model: Any, folder: Path, names: str) -> Path:
    """`published`: as transformers writes them; `modules`: as its modules are called."""
    model.save_pretrained(folder)
    if names == "modules":
        weights = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
        save_file(weights, folder / SINGLE, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(("name", "decoder"), CASES, ids=str)
def test_pruned_is_bypassed(name: str, decoder: str, tmp_path: Path) -> None:
    """Layers of two kinds, of which some go, under either form of the tensors' names: the same logits."""
    model = small_model(name, decoder)
    prompt = torch.arange(3, 19)[None]
    slim = []
    for names in ("published", "modules"):
        source = _write(model, tmp_path / names, names)
        report = prune_checkpoint(source, tmp_path / f"{names}-slim", DROP)
        assert report.text_only == FAMILIES[name].text_only
        slim.append(load_model(tmp_path / f"{names}-slim"))
    blocks = parts_of(model).blocks
    with torch.inference_mode():
        whole = model(input_ids=prompt, use_cache=False).logits
        for layer in DROP:
            blocks[layer] = _Through()
        bypassed = model(input_ids=prompt, use_cache=False).logits
        for reloaded in slim:
            assert len(parts_of(reloaded).blocks) == len(blocks) - len(DROP)
            torch.testing.assert_close(reloaded(input_ids=prompt).logits, bypassed, atol=1e-4, rtol=1e-4)
    assert (whole - bypassed).abs().max() > 0.05
