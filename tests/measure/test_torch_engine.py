"""The torch engine against the exported graphs: same tokens at full depth and for every slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny
from topovlm.checkpoint.live import load
from topovlm.errors import InputError
from topovlm.exporters.onnx.slices import slice_export
from topovlm.exporters.protocol import ExportRecord
from topovlm.measure.settings import ProfileRequest, RunSettings, TimingRules
from topovlm.measure.torch_engine import TorchEngine
from topovlm.measure.torch_profile import measure_torch
from topovlm.runtime.engine import Engine
from topovlm.runtime.manifest import load_manifest

NEW_TOKENS = 6


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_slices_answer_as_slices_of_the_graph(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Tokens of each depth, in any order, are those of the sliced plain graph; the model stays whole."""
    checkpoint = request.getfixturevalue(f"tiny_{family.replace('-', '_')}")
    folder, _ = request.getfixturevalue(f"{family.split('-', maxsplit=1)[0]}_export")
    live, manifest = load(checkpoint), load_manifest(folder)
    engines = {depth: TorchEngine(live, manifest, depth) for depth in (2, 4, live.layers)}
    graphs = {depth: slice_export(folder, depth, tmp_path / f"{depth}", "plain") for depth in (2, 4)}
    for depth in (4, live.layers, 2, live.layers):
        expected = Engine(graphs.get(depth, folder), variant="plain", threads=1)
        prepared = expected.prepare([tiny.picture(3)], tiny.PROMPTS[0])
        ours = engines[depth].prompter.prepare([tiny.picture(3)], tiny.PROMPTS[0])
        assert (ours.ids == prepared.ids).all()
        found = engines[depth].generate_prepared(ours, NEW_TOKENS, stop_at_eos=False)
        answer = expected.generate_prepared(prepared, NEW_TOKENS, stop_at_eos=False)
        assert found.token_ids == answer.token_ids
        assert len(found.token_ms) == NEW_TOKENS - 1
        assert min(found.vision_ms, found.embed_ms, found.prefill_ms, *found.token_ms) > 0
    assert len(live.blocks) == live.layers == live.model.config.text_config.num_hidden_layers
    assert [block.self_attn.layer_idx for block in live.blocks] == list(range(live.layers))


def test_a_profile_names_torch(siglip_export: tuple[Path, ExportRecord], tiny_siglip_qwen2: Path) -> None:
    """The document is that of any profile; its runtime says what ran."""
    rules = TimingRules(warmup=1, min_rounds=4, max_rounds=4)
    request = ProfileRequest(prompt_tokens=12, new_tokens=3, rules=rules, run=RunSettings(threads=1))
    profile = measure_torch(tiny_siglip_qwen2, siglip_export[0], "auto", request)
    assert profile.threads == 1
    assert (profile.target, profile.runtime, profile.dtype) == ("local", "torch-cpu", "fp32")
    assert (profile.variant, profile.layers, profile.memory) == ("eager", 6, None)
    assert set(profile.samples) == {"2", "4", "6"}
    assert len(profile.model_sha256) == 64


def test_depths_that_cannot_be_are_refused(
    siglip_export: tuple[Path, ExportRecord], tiny_siglip_qwen2: Path
) -> None:
    """Fewer than two layers, or more than there are."""
    live, manifest = load(tiny_siglip_qwen2), replace(load_manifest(siglip_export[0]), layers=6)
    for depth in (1, 7):
        with pytest.raises(InputError, match="between 2 and the 6 layers"):
            TorchEngine(live, manifest, depth)
