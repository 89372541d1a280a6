"""A checkpoint of a published model's shape with random weights, written tensor by tensor:

    python -m benchmarks.scale.checkpoint DIR [--layers 32]

LLaVA-NeXT with Llama-3-8B in bfloat16: 8.35 billion parameters, 16.7 GB. Tokenizer and processor are the
small real ones of the tests. Weights are drawn so that streams stay finite and every block matters.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TEXT = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128320,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}
VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
_SHARD_BYTES = 5_000_000_000
_PIECE = 1 << 24  # numbers drawn at a time
# Queries and keys of random weights agree so little that attention is a mean over all tokens, whatever their
# positions: an export's gate would rightly say that it cannot see a shifted one in half precision.
_SHARPNESS = 1.6


def build(folder: Path, layers: int = 32, seed: int = 0) -> Path:
    """Write the checkpoint; what was there goes. Returns `folder`."""
    import torch
    from tests import tiny_families
    from transformers import AutoConfig, AutoModelForImageTextToText

    shutil.rmtree(folder, ignore_errors=True)
    tiny_families.build(folder, "llava_next", layers=2)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    _adapt(folder, layers)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _write(folder, shapes, seed)
    return folder


def _adapt(folder: Path, layers: int) -> None:
    """The published sizes in the files of the small one."""
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {**TEXT, "num_hidden_layers": layers}
    config["vision_config"] |= VISION
    config |= {"image_grid_pinpoints": PINPOINTS, "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for name in ("preprocessor_config.json", "processor_config.json"):
        whole = json.loads((folder / name).read_text())
        images = whole.get("image_processor", whole)
        images |= {
            "image_grid_pinpoints": PINPOINTS,
            "size": {"shortest_edge": 336},
            "crop_size": {"height": 336, "width": 336},
        }
        if "image_processor" in whole:
            whole["patch_size"] = 14
        (folder / name).write_text(json.dumps(whole, indent=1))


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    part: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        if part and size + 2 * math.prod(shape) > _SHARD_BYTES:
            yield part
            part, size = {}, 0
        part[name] = shape
        size += 2 * math.prod(shape)
    yield part


def _write(folder: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    parts = list(_shards(shapes))
    weight_map = {}
    rng = np.random.default_rng(seed)
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        weight_map |= dict.fromkeys(part, file)
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in part.items():
            begin, end = end, end + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
        raw = json.dumps(header).encode()
        raw += b" " * (-len(raw) % 8)
        with (folder / file).open("wb") as out:
            out.write(struct.pack("<Q", len(raw)) + raw)
            for name, shape in part.items():
                for piece in _drawn(rng, name, shape):
                    out.write(piece)
    index = {
        "metadata": {"total_size": sum(2 * math.prod(s) for s in shapes.values())},
        "weight_map": weight_map,
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Iterator[bytes]:
    """bfloat16 bytes: norms near one, biases small, matrices with outputs as large as their inputs."""
    left = math.prod(shape)
    if len(shape) < 2:
        scale, shift = (0.02, 1.0) if "norm" in name and name.endswith("weight") else (0.02, 0.0)
    else:
        scale, shift = 1 / math.sqrt(math.prod(shape[1:])), 0.0
        if "embed" in name:
            scale = 0.5
        if "language_model" in name and name.endswith(("q_proj.weight", "k_proj.weight")):
            scale *= _SHARPNESS
    while left:
        count = min(left, _PIECE)
        values = rng.standard_normal(count, dtype=np.float32) * np.float32(scale) + np.float32(shift)
        # The upper half of a float32 is a bfloat16: cut, not rounded, which is nothing to random numbers.
        yield (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        left -= count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    arguments = parser.parse_args()
    build(arguments.folder, arguments.layers)


if __name__ == "__main__":
    main()
