"""Heads whose width is no multiple of 16: the plain graph is written, and the record says why no other is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cases.command import edit, reference_copy, topovlm


def odd_heads(folder: Path, width: int) -> Path:
    """Two random layers of four heads of that width."""
    import torch
    from transformers import AutoConfig, LlavaForConditionalGeneration

    def change(whole: dict[str, dict[str, object]]) -> None:
        whole["text_config"].update(
            num_hidden_layers=2,
            hidden_size=4 * width,
            head_dim=width,
            intermediate_size=96,
            max_window_layers=2,
            layer_types=["full_attention"] * 2,
        )

    reference_copy(folder)
    edit(folder / "config.json", change)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(AutoConfig.from_pretrained(folder)).eval()
    for value in model.parameters():
        if value.ndim > 1:
            value.data = torch.randn_like(value) * (2 / value[0].numel()) ** 0.5
    model.float().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("width", [20, 100, 120])
def test_the_plain_graph_is_written(tmp_path: Path, width: int) -> None:
    """And runs; the absence of the fused one is a note that names the field."""
    model = odd_heads(tmp_path / "m", width)
    done = topovlm("export", "--model", model, "-o", tmp_path / "onnx", "--json", cwd=tmp_path)
    assert done.code == 0, done.last
    record = json.loads(done.out)
    assert record["variants"] == ["plain"]
    assert [limit for limit in record["limits"] if f"no fused form: head_dim = {width}" in limit]
    words = ["run", tmp_path / "onnx", "--prompt", "What colour?", "--max-new-tokens", 2]
    assert topovlm(*words, cwd=tmp_path).code == 0
