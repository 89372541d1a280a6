"""Where the model comes from: the shipped reference LVLM, a local folder, or the Hugging Face hub."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from topovlm.artifacts import sha256_file
from topovlm.checkpoint import files as checkpoint
from topovlm.checkpoint.card import license_of
from topovlm.checkpoint.files import Checkpoint
from topovlm.config import REFERENCE_MODEL
from topovlm.families.facts import ModelFacts
from topovlm.pipeline.model import DenseModel


@dataclass(frozen=True)
class Source:
    """An opened model and its licence. `name` is what the user typed."""

    name: str
    checkpoint: Checkpoint
    licence: str

    @property
    def folder(self) -> Path:
        return self.checkpoint.folder

    @functools.cached_property
    def dense(self) -> DenseModel:
        """Model and processor, read when somebody asks."""
        return DenseModel(self.checkpoint)

    @property
    def display_name(self) -> str:
        """For people: the hub id or the folder's own name, never a path."""
        if self.name == REFERENCE_MODEL:
            return "topovlm reference LVLM"
        return (
            self.name
            if checkpoint.is_hub_id(self.name) and not Path(self.name).exists()
            else self.folder.name
        )

    @property
    def layers(self) -> int:
        """Decoder layers of the dense model."""
        return self.checkpoint.layers


def model_folder(name: str) -> Path | str:
    """`reference` -> the shipped model's folder; anything else is a folder or a hub id as it stands."""
    if name == REFERENCE_MODEL and not Path(name).exists():
        from topovlm.reference import model_dir

        return model_dir()
    return name


def model_facts(name: str) -> ModelFacts:
    """config.json and image processor of `--model`; reads (and downloads) no weights. Raises `InputError`."""
    return checkpoint.read_facts(model_folder(name))


def config_sha256(name: str) -> str:
    """sha256 (hex) of the bytes of config.json of `--model`: what a profile names its model by."""
    return sha256_file(checkpoint.resolve(model_folder(name), config_only=True) / "config.json")


def find_model(name: str) -> Source:
    """Resolve `--model` and check it whole, shards and tensors. Raises `InputError`."""
    opened = checkpoint.open_checkpoint(model_folder(name))
    return Source(name, opened, license_of(opened.folder).id)
