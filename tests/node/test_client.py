"""transformers.js loads an exported folder as it is and generates torch's tokens.

Needs node >= 20 and, once, in this folder:  ONNXRUNTIME_NODE_INSTALL=skip npm install
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests import tiny
from tests.exporters.answers import greedy
from tests.node import client
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.onnx.half import float_interface
from topovlm.runtime.engine import Engine

PICTURES, NEW_TOKENS = 3, 10


@pytest.mark.skipif(client.missing() is not None, reason=str(client.missing()))
@pytest.mark.parametrize("family", ["tiny_siglip_qwen2", "tiny_clip_llama"])
def test_transformers_js_answers_like_torch(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Same greedy tokens on three pictures of the model's own size: image libraries resize differently."""
    model_dir, folder = request.getfixturevalue(family), tmp_path / "export"
    export_onnx(model_dir, folder, variants=("plain",))
    pairs = [(tiny.picture(10 + i, 32), tiny.PROMPTS[i]) for i in range(PICTURES)]
    assert client.ask(folder, pairs, NEW_TOKENS, tmp_path) == greedy(model_dir, pairs, NEW_TOKENS)


@pytest.mark.skipif(client.missing() is not None, reason=str(client.missing()))
@pytest.mark.parametrize("family", ["tiny_siglip_qwen2", "tiny_clip_llama"])
def test_transformers_js_runs_an_fp16_folder(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The fp16 folder loads as it is, its cache in fp16, and says what ONNX Runtime says in Python."""
    model_dir, folder = request.getfixturevalue(family), tmp_path / "export"
    export_onnx(model_dir, folder, variants=("plain",), dtype="fp16")
    for file in (folder / "onnx").glob("*.onnx"):
        ir.save(float_interface(ir.load(file)), file)
    pairs = [(tiny.picture(10 + i, 32), tiny.PROMPTS[i]) for i in range(PICTURES)]
    engine = Engine(folder)
    assert {engine.decoder.dtypes[name] for name in engine.decoder.past_names} == {np.float16}
    wanted = [engine.generate([image], words, NEW_TOKENS).token_ids for image, words in pairs]
    assert client.ask(folder, pairs, NEW_TOKENS, tmp_path) == wanted


@pytest.mark.skipif(client.missing() is not None, reason=str(client.missing()))
def test_a_configuration_that_leaves_sizes_out(tmp_path: Path) -> None:
    """LLaVA-1.5-7b does not say how many layers it has: 32, which transformers.js does not know by itself."""
    model_dir = tiny.build(tmp_path / "model", "clip-llama", layers=32)
    config = json.loads((model_dir / "config.json").read_text())
    del config["text_config"]["num_hidden_layers"]
    (model_dir / "config.json").write_text(json.dumps(config))
    export_onnx(model_dir, tmp_path / "export", variants=("plain",))
    pairs = [(tiny.picture(10, 32), tiny.PROMPTS[0])]
    assert client.ask(tmp_path / "export", pairs, 4, tmp_path) == greedy(model_dir, pairs, 4)
