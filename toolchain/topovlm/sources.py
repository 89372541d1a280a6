"""Where the model comes from: the shipped reference LVLM, a local folder, or the Hugging Face hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topovlm.config import REFERENCE_MODEL
from topovlm.errors import InputError, explain

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md"]


@dataclass(frozen=True)
class Source:
    """A model folder and what is known of its origin. `name` is what the user typed."""

    name: str
    folder: Path
    config: dict[str, Any]
    licence: str


def find_model(name: str) -> Source:
    """Resolve `--model`. Raises `InputError` when it is no model folder; reads no weights."""
    if name == REFERENCE_MODEL:
        from topovlm.reference import model_dir

        folder = model_dir()
    elif Path(name).expanduser().exists():
        folder = Path(name).expanduser()
    elif _HUB_ID.fullmatch(name):
        folder = _from_hub(name)
    else:
        rule = "no such folder, and no hub id of the form owner/name"
        raise InputError(explain("--model", name, rule, "Leave it out for the shipped reference model"))
    return Source(name=name, folder=folder, config=read_config(folder), licence=licence_of(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises `InputError` when the folder holds no usable model."""
    remedy = "Give a Hugging Face model folder with config.json and safetensors weights"
    if not folder.is_dir():
        raise InputError(explain("--model", str(folder), "is not a folder", remedy))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(explain("--model", str(folder), "has no config.json", remedy)) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            explain("--model", str(folder), f"config.json is unreadable ({error})", remedy)
        ) from None
    if not isinstance(config, dict):
        raise InputError(explain("--model", str(folder), "config.json must hold an object", remedy))
    return config


def licence_of(folder: Path) -> str:
    """The licence that the model card declares, else what a LICENSE file starts with, else `unknown`."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
        declared = re.search(r"^licen[cs]e:\s*(\S.*)$", head, re.MULTILINE)
        if declared:
            return declared[1].strip()
    for path in sorted(folder.glob("LICEN[CS]E*")):
        first = path.read_text(encoding="utf-8", errors="replace").strip().partition("\n")[0].strip()
        if first:
            return first
    return "unknown"


def _from_hub(name: str) -> Path:
    """Download (or find in the cache, with HF_HUB_OFFLINE) without weights in pickle form."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub client raises its own, requests' and OS errors
        reason = str(error).strip().partition("\n")[0]
        rule = f"is no local folder and could not be fetched from the hub ({type(error).__name__}: {reason})"
        raise InputError(explain("--model", name, rule, "Give a local folder")) from None
