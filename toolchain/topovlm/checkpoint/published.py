"""Tensor names as checkpoints are published, so that every release of transformers finds them.

Newer releases of transformers read old names and new ones, older releases only the old ones and draw what
they do not find at random, with a warning. So what is written here bears the old names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from topovlm.artifacts import read_json
from topovlm.checkpoint.safetensors_file import TensorEntry, read_header, write_file
from topovlm.errors import InputError, explain
from topovlm.families.catalogue import TOWERS, find_family
from topovlm.families.configs import VISION_KEY, ModelConfig


def published_names(names: Iterable[str], config: ModelConfig) -> dict[str, str]:
    """Each tensor's name -> its published name, by the records of the family and its tower."""
    family, vision = find_family(str(config.get("model_type"))), config.get(VISION_KEY) or {}
    kind = vision.get("model_type", family.default_tower if family else "")
    inner = TOWERS[kind].published if kind in TOWERS else ""
    if not inner:
        return {name: name for name in names}
    path = family.modules.tower if family and family.modules else "vision_tower"
    tower = f"{path.removeprefix('model.')}."

    def published(name: str) -> str:
        before, found, rest = name.partition(tower)
        if not found or before not in ("", "model.") or rest.startswith(inner):
            return name
        return f"{before}{tower}{inner}{rest}"

    return {name: published(name) for name in names}


def write_published_names(folder: Path) -> int:
    """Rename the tensors of `folder`'s model.safetensors where needed; how many were renamed.

    The tensors' bytes and their order stay. Raises `InputError` for a file that is missing or damaged.
    """
    file = folder / "model.safetensors"
    entries, metadata = read_header(file)
    names = published_names((entry.name for entry in entries), read_json(folder / "config.json"))
    renamed = sum(old != new for old, new in names.items())
    if len(set(names.values())) < len(entries):
        raise InputError(explain("weights", str(file), "holds a tensor under its old and its new name"))
    if renamed:
        rows: list[tuple[str, TensorEntry]] = [(names[entry.name], entry) for entry in entries]
        partial = file.with_name(file.name + ".partial")
        write_file(partial, rows, metadata)
        os.replace(partial, file)
    return renamed
