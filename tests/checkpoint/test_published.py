"""Published names: the newest release reads the same from them, and they are those of the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests import tiny_families
from topovlm.artifacts import read_json
from topovlm.checkpoint.published import (
    published_config,
    published_names,
    published_tokenizer,
    write_published_names,
)
from topovlm.checkpoint.safetensors_file import read_header
from topovlm.errors import InputError
from topovlm.reference import model_dir

LLAVA = {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}}


def test_names_of_the_hub() -> None:
    """Files of LLaVA-1.5 have `vision_tower.vision_model.`; a Pixtral tower never had it."""
    new = [
        "vision_tower.encoder.layers.0.x",
        "model.vision_tower.post_layernorm.bias",
        "language_model.lm_head.weight",
    ]
    old = [
        "vision_tower.vision_model.encoder.layers.0.x",
        "model.vision_tower.vision_model.post_layernorm.bias",
        "language_model.lm_head.weight",
    ]
    assert list(published_names(new, LLAVA).values()) == old
    assert list(published_names(old, LLAVA).values()) == old
    pixtral = {**LLAVA, "vision_config": {"model_type": "pixtral"}}
    assert list(published_names(new, pixtral).values()) == new
    two = {**LLAVA, "model_type": "video_llava"}
    found = published_names(["model.image_tower.x", "video_tower.y", "multi_modal_projector.z"], two)
    assert [*found.values()] == [
        "model.image_tower.vision_model.x",
        "video_tower.vision_model.y",
        "multi_modal_projector.z",
    ]
    no_tower = {"model_type": "llama"}
    assert list(published_names(["model.norm.weight"], no_tower).values()) == ["model.norm.weight"]


def test_the_reference_bears_published_names() -> None:
    """Every tensor of the shipped model; its tokenizer too."""
    names = [entry.name for entry in read_header(model_dir() / "model.safetensors")[0]]
    assert list(published_names(names, read_json(model_dir() / "config.json")).values()) == names
    assert sum(name.startswith("vision_tower.vision_model.") for name in names) == 69
    settings = read_json(model_dir() / "tokenizer_config.json")
    assert published_tokenizer(settings) == settings


def test_only_names_change(tmp_path: Path) -> None:
    """Renaming leaves bytes, order and metadata; the model is the same; a second time renames none."""
    import torch
    from transformers import AutoModelForImageTextToText

    folder = tiny_families.build(tmp_path / "x", "llava-clip-llama", layers=2)
    file = folder / "model.safetensors"
    entries, metadata = read_header(file)
    bytes_before = file.read_bytes()[entries[0].offset_bytes :]
    before = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    assert write_published_names(folder) == sum(".vision_tower." in name for name in before) > 0
    renamed, metadata_after = read_header(file)
    assert file.read_bytes()[renamed[0].offset_bytes :] == bytes_before
    assert metadata_after == metadata
    assert [(e.shape, e.dtype) for e in renamed] == [(e.shape, e.dtype) for e in entries]
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert write_published_names(folder) == 0


def test_a_tensor_under_both_names_is_refused(tmp_path: Path) -> None:
    """Which of the two would be read depends on the release."""
    import torch
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps(LLAVA))
    names = ("vision_tower.a", "vision_tower.vision_model.a")
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="old and its new name"):
        write_published_names(tmp_path)


@pytest.mark.parametrize("name", tiny_families.STOCK)
def test_the_newest_release_reads_the_same_configuration(name: str, tmp_path: Path) -> None:
    """Fields of older releases beside the new ones change nothing for a release that knows both."""
    from transformers import AutoConfig

    tokenizer = tiny_families.tokenizer_for(tiny_families.WORDS[name])
    config = tiny_families.config_for(name, tiny_families.WORDS[name], tokenizer, 4)
    config.save_pretrained(tmp_path)
    before = AutoConfig.from_pretrained(tmp_path).to_dict()
    published = published_config(read_json(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text(json.dumps(published))
    after = AutoConfig.from_pretrained(tmp_path).to_dict()
    assert _common(after, before) == before


def _common(after: dict, before: dict) -> dict:
    """`after` with the fields of `before` alone: older releases' fields are kept as they are."""
    return {
        key: _common(after[key], value)
        if isinstance(value, dict) and isinstance(after.get(key), dict)
        else after.get(key)
        for key, value in before.items()
    }


def test_the_reference_folder_is_published_by_its_command(tmp_path: Path) -> None:
    """Publishing the shipped folder once more changes no byte."""
    from topovlm.reference.published import main

    folder = shutil.copytree(model_dir(), tmp_path / "model")
    main([str(folder)])
    for file in folder.iterdir():
        assert file.read_bytes() == (model_dir() / file.name).read_bytes(), file.name
