"""The reference LVLM: a small but really trained model with its benchmark, shipped in the package."""

from __future__ import annotations

from pathlib import Path

from topovlm.errors import InputError, explain

NAME = "topovlm-reference"


def model_dir() -> Path:
    """The shipped checkpoint: a plain Hugging Face folder. Raises `InputError` where it is missing."""
    folder = Path(__file__).parent / "model"
    if not (folder / "model.safetensors").is_file():
        remedy = "Reinstall topovlm, or train it: python -m topovlm.reference.train --help"
        raise InputError(explain("reference model", str(folder), "is not installed", remedy))
    return folder
