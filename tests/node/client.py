"""transformers.js from Python: ask an exported folder, get token ids back."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent


def missing() -> str | None:
    """What is needed and not there, or None."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (HERE / "node_modules/@huggingface/transformers").is_dir():
        return "npm packages are absent: cd tests/node && ONNXRUNTIME_NODE_INSTALL=skip npm install"
    return None


def ask(
    folder: Path, pairs: list[tuple[Image.Image, str]], new_tokens: int, scratch: Path
) -> list[list[int]]:
    """Greedy token ids for each (picture, prompt). Raises RuntimeError with the client's own words."""
    wanted = []
    for index, (image, prompt) in enumerate(pairs):
        file = scratch / f"picture{index}.png"
        image.save(file)
        wanted.append({"image": str(file), "prompt": prompt})
    request = scratch / "request.json"
    facts = {"folder": str(folder.resolve()), "max_new_tokens": new_tokens, "pairs": wanted}
    request.write_text(json.dumps(facts))
    command = [str(shutil.which("node")), str(HERE / "generate.mjs"), str(request)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return [answer["tokens"] for answer in json.loads(done.stdout)]
