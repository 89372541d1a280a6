"""Checkpoints in the form in which they are published, which every release of transformers reads.

Newer releases of transformers read old names of tensors and fields as well as new ones. Older releases read
only the old ones: tensors that they do not find are drawn at random, fields take their defaults, with a
warning at best. So what is written here bears the old names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from topovlm.artifacts import read_json
from topovlm.checkpoint.safetensors_file import TensorEntry, read_header, write_file
from topovlm.errors import InputError, explain
from topovlm.families.catalogue import TOWERS, find_family
from topovlm.families.configs import TEXT_KEYS, VISION_KEY, ModelConfig


def published_names(names: Iterable[str], config: ModelConfig) -> dict[str, str]:
    """Each tensor's name -> its published name, by the records of the family and its tower."""
    family, vision = find_family(str(config.get("model_type"))), config.get(VISION_KEY) or {}
    kind = vision.get("model_type", family.default_tower if family else "")
    inner = TOWERS[kind].published if kind in TOWERS else ""
    if not inner:
        return {name: name for name in names}
    paths = family.modules.towers if family and family.modules else ("vision_tower",)
    towers = tuple(f"{path.removeprefix('model.')}." for path in paths)

    def published(name: str) -> str:
        for tower in towers:
            before, found, rest = name.partition(tower)
            if found and before in ("", "model.") and not rest.startswith(inner):
                return f"{before}{tower}{inner}{rest}"
        return name

    return {name: published(name) for name in names}


def published_config(config: ModelConfig) -> dict[str, Any]:
    """The configuration with the fields of older releases beside those of newer ones, of the same values."""
    parts = {name: part for name, part in config.items() if name in (*TEXT_KEYS, VISION_KEY)}
    nested = {name: _with_old_rope(part) for name, part in parts.items() if isinstance(part, Mapping)}
    family = find_family(str(config.get("model_type")))
    renamed = family.renamed if family else {}
    old = {renamed[name]: value for name, value in config.items() if name in renamed}
    return {**old, **_with_old_rope(config), **nested}


def _with_old_rope(part: ModelConfig) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` beside `rope_parameters`, which releases before 5 do not read.

    Two angles per patch have always been a tower's own affair: a release that says "axial" is newer than
    others that have the tower, so that word goes.
    """
    rope = part.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return dict(part)
    if rope.get("rope_type") == "axial":
        rest = {name: value for name, value in part.items() if name != "rope_parameters"}
        return {"rope_theta": rope.get("rope_theta"), **rest}
    whole, old = rope.get("full_attention", rope), {}
    if "sliding_attention" in rope:
        old["rope_local_base_freq"] = rope["sliding_attention"].get("rope_theta")
    old |= {name: whole[name] for name in ("rope_theta", "partial_rotary_factor") if name in whole}
    scaling = {name: value for name, value in whole.items() if name not in old}
    if "mrope_section" in scaling or scaling.get("rope_type", "default") != "default":
        old["rope_scaling"] = {"type": scaling.get("rope_type", "default"), **scaling}
    return {**old, **part}


def published_tokenizer(config: ModelConfig) -> dict[str, Any]:
    """tokenizer_config.json as releases before 5 read it: the name of the list of special tokens, and that a
    tokenizer without a class of its own gives no types of tokens."""
    tokens, kind = config.get("extra_special_tokens"), config.get("tokenizer_class")
    listed = isinstance(tokens, list)
    rest = {name: value for name, value in config.items() if not (listed and name == "extra_special_tokens")}
    if listed:
        rest["additional_special_tokens"] = tokens
    if kind == "PreTrainedTokenizerFast":
        rest.setdefault("model_input_names", ["input_ids", "attention_mask"])
    return dict(sorted(rest.items()))


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
