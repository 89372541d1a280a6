"""transformers.js loads an exported folder as it is and generates torch's tokens.

Needs node >= 20 and, once, in this folder:  ONNXRUNTIME_NODE_INSTALL=skip npm install --no-package-lock
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import tiny
from tests.export.answers import greedy
from topovlm.export.onnx import export_onnx

HERE = Path(__file__).parent
PICTURES, NEW_TOKENS = 3, 10


@pytest.fixture(scope="module")
def node() -> str:
    """The node program; skips, saying what is missing, without it or its packages."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    if not (HERE / "node_modules/@huggingface/transformers").is_dir():
        pytest.skip(f"npm packages are absent: ONNXRUNTIME_NODE_INSTALL=skip npm install in {HERE}")
    return program


@pytest.mark.parametrize("family", ["tiny_siglip_qwen2", "tiny_clip_llama"])
def test_transformers_js_answers_like_torch(
    node: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Same greedy tokens on three pictures of the model's own size: image libraries resize differently."""
    model_dir, folder = request.getfixturevalue(family), tmp_path / "export"
    export_onnx(model_dir, folder, variants=("plain",))
    pairs = [(tiny.picture(10 + i, 32), tiny.PROMPTS[i]) for i in range(PICTURES)]
    files = [tmp_path / f"picture{i}.png" for i in range(PICTURES)]
    for (image, _), file in zip(pairs, files, strict=True):
        image.save(file)
    wanted = [{"image": str(file), "prompt": prompt} for file, (_, prompt) in zip(files, pairs, strict=True)]
    asked = tmp_path / "request.json"
    asked.write_text(json.dumps({"folder": str(folder), "max_new_tokens": NEW_TOKENS, "pairs": wanted}))
    command = [node, str(HERE / "generate.mjs"), str(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    assert [answer["tokens"] for answer in answers] == greedy(model_dir, pairs, NEW_TOKENS)
