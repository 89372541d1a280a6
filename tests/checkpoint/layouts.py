"""Checkpoints as the hub has them, without their weights: configuration, names and shapes of all tensors.

`published/*.json` hold each model's config.json as published, how its tensors are called, and, where it was
noted down from its index, their size in bytes. Names and shapes are those of the model that transformers
builds from that configuration on the meta device; files are sparse and full of zeros, so 8B take kilobytes.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from topovlm.checkpoint import safetensors_file
from topovlm.checkpoint.files import INDEX
from topovlm.checkpoint.safetensors_file import TensorEntry

_FOLDER = Path(__file__).with_name("published")
IDS = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
Shapes = dict[str, tuple[int, ...]]

# What transformers' modules are called -> what published tensors are called.
_LLAVA = (
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.(vision_tower|multi_modal_projector|image_newline)", r"\1"),
    (r"^vision_tower\.(?=(embeddings|encoder|pre_layrnorm|post_layernorm)\b)", "vision_tower.vision_model."),
)
_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "llava": _LLAVA,
    "internvl": _LLAVA[:3],
    "qwen2": ((r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual.")),
    "modules": (),
}


@dataclass(frozen=True)
class Layout:
    """One published model. `total_size`: bytes of its tensors, None where nobody wrote it down."""

    config: dict[str, Any]
    names: str
    total_size: int | None = None

    def published(self, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
        """Names of modules -> names as published."""
        return {_renamed(name, _NAMES[self.names]): shape for name, shape in shapes.items()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def layout(name: str) -> Layout:
    """Of a model by its id."""
    return Layout(**json.loads((_FOLDER / f"{name}.json").read_text()))


def shapes_of(config: Mapping[str, Any]) -> Shapes:
    """Names of transformers' modules and shapes of what is stored for them; a tied head is not."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText
    theirs: Any = CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(config)))
    with torch.device("meta"):
        model = auto.from_config(theirs)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if theirs.tie_word_embeddings:
        del shapes["lm_head.weight"]
    return shapes


def write(folder: Path, config: Mapping[str, Any], shapes: Shapes, *, shards: int = 3) -> Path:
    """A checkpoint of zeros in bfloat16, in shards with an index. The files are sparse."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    weight_map = {}
    for number, names in enumerate(_parts(list(shapes), shards), start=1):
        file = f"model-{number:05d}-of-{shards:05d}.safetensors"
        _write_zeros(folder / file, {name: shapes[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    total = sum(2 * prod(shape) for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def _parts(names: list[str], count: int) -> Iterator[list[str]]:
    size = -(-len(names) // count)
    return (names[start : start + size] for start in range(0, len(names), size))


def _write_zeros(path: Path, shapes: Shapes) -> None:
    header, position = {}, 0
    for name, shape in shapes.items():
        end = position + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + position)


def pass_over_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of tensors are holes, so that slim models' files are sparse, too."""

    def skip(source: BinaryIO, target: BinaryIO, entry: TensorEntry) -> None:
        target.seek(entry.size_bytes - 1, os.SEEK_CUR)
        target.write(b"\0")

    monkeypatch.setattr(safetensors_file, "_copy", skip)
