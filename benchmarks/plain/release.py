"""The trained weights that the repository carries, and the checkpoint folder of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.plain.model import write_checkpoint

TRAINED = Path(__file__).parent / "trained"
WEIGHTS = TRAINED / "weights.safetensors"


def write_weights(run: Path) -> Path:
    """A run's last checkpoint in float16, with its recipe, log and versions beside it."""
    import torch
    from safetensors.torch import save_file

    from topovlm.reference.train import versions

    saved = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    tensors = {
        name: value.half().contiguous() for name, value in saved["model"].items() if "lm_head" not in name
    }
    TRAINED.mkdir(parents=True, exist_ok=True)
    save_file(tensors, WEIGHTS, {"format": "pt"})
    made = {"step": saved["step"], "seconds": round(saved["seconds"]), "versions": versions()}
    (TRAINED / "provenance.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    for name in ("recipe.json", "log.jsonl"):
        shutil.copyfile(run / name, TRAINED / name)
    return WEIGHTS


def build(folder: Path) -> Path:
    """Write the checkpoint folder."""
    from safetensors.torch import load_file

    weights = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    weights["lm_head.weight"] = weights["model.text_model.embed_tokens.weight"]
    seed = json.loads((TRAINED / "recipe.json").read_text(encoding="utf-8"))["seed"]
    return write_checkpoint(folder, weights, seed)
