"""Surgery on every family: the reloaded checkpoint is the dense model with those layers bypassed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.checkpoint.small import LAYERS, small_model
from topovlm.checkpoint.files import SINGLE, open_checkpoint
from topovlm.checkpoint.loading import load_model
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.errors import InputError
from topovlm.families.catalogue import FAMILIES, families_that
from topovlm.families.torch_parts import parts_of

DROP = (2, 4)
# Those of ours alone are in tests/native.
STOCK = [name for name in families_that("prune") if not FAMILIES[name].native]
CASES = [
    *((name, FAMILIES[name].default_decoder) for name in STOCK),
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
    for names in ("published",) if FAMILIES[name].text_only else ("published", "modules"):
        source = _write(model, tmp_path / names, names)
        report = prune_checkpoint(source, tmp_path / f"{names}-slim", DROP)
        assert report.text_only == FAMILIES[name].text_only
        card = (tmp_path / f"{names}-slim" / "README.md").read_text()
        assert ("pipeline_tag: text-generation" in card) == report.text_only
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


@pytest.mark.parametrize("name", [name for name in STOCK if FAMILIES[name].flat])
def test_flat_configurations_load_as_nested_ones_do(name: str, tmp_path: Path) -> None:
    """The decoder's fields at the top, as published: the slim model computes what the nested one does."""
    model = small_model(name, FAMILIES[name].default_decoder)
    nested = _write(model, tmp_path / "nested", "published")
    flat = Path(shutil.copytree(nested, tmp_path / "flat"))
    config = json.loads((flat / "config.json").read_text())
    fields = {**config.pop("text_config"), **config}
    if FAMILIES[name].own_code:
        fields["auto_map"] = {"AutoConfig": "configuration_paddleocr_vl.PaddleOCRVLConfig"}
    (flat / "config.json").write_text(json.dumps(fields))
    logits = []
    for source in (nested, flat):
        report = prune_checkpoint(source, tmp_path / f"{source.name}-slim", DROP)
        slim = load_model(tmp_path / f"{source.name}-slim")
        with torch.inference_mode():
            logits.append(slim(input_ids=torch.arange(3, 19)[None]).logits)
    torch.testing.assert_close(*logits)
    written = json.loads((tmp_path / "flat-slim" / "config.json").read_text())
    assert "text_config" not in written
    assert written["num_hidden_layers"] == LAYERS - len(DROP)
    changed = {field for field in fields if fields[field] != written.get(field)}
    assert changed == set(report.config_changes)
    assert changed - {"num_hidden_layers", "layer_types", "max_window_layers"} == set(written) ^ set(fields)


def test_layers_of_two_shapes_are_each_held_against_their_own_kind(tmp_path: Path) -> None:
    """Every second layer is a mixture of experts: what one lacks beside its like is named."""
    from safetensors.torch import load_file

    source = _write(small_model("qwen3_vl_moe", "qwen3_vl_moe_text"), tmp_path / "model", "published")
    weights = load_file(source / SINGLE)
    assert open_checkpoint(source).layers == LAYERS
    for absent in ("layers.3.mlp.experts.down_proj", "layers.2.mlp.down_proj.weight"):
        name = f"model.language_model.{absent}"
        save_file({key: value for key, value in weights.items() if key != name}, source / SINGLE)
        with pytest.raises(InputError, match=f"the tensor {name} is missing"):
            open_checkpoint(source)
    small = {**weights, "model.language_model.layers.3.mlp.experts.down_proj": torch.zeros(4, 8, 8)}
    save_file(small, source / SINGLE)
    with pytest.raises(InputError, match="layer 3 has other shapes"):
        open_checkpoint(source)
