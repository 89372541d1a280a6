"""Surgery on checkpoints as the hub has them: names as published, and as transformers' modules are called."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint.layouts import IDS, layout, pass_over_zeros, shapes_of, write
from tests.checkpoint.small import small_model
from topovlm.checkpoint.files import INDEX, open_checkpoint, read_facts
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.families.facts import ModelFacts
from topovlm.families.known_models import find_known_model, known_model

DROP = (5, 6, 12, 17)


@pytest.fixture(autouse=True)
def _holes(monkeypatch: pytest.MonkeyPatch) -> None:
    pass_over_zeros(monkeypatch)


def _kinds(config: dict[str, Any]) -> list[str] | None:
    from transformers import CONFIG_MAPPING

    theirs: Any = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    return getattr(theirs.get_text_config(), "layer_types", None)


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    """Fields of the top and of the decoder, by the names that reports use."""
    inner = {f"text_config.{field}": value for field, value in config.get("text_config", {}).items()}
    return {field: value for field, value in config.items() if field != "text_config"} | inner


@pytest.mark.parametrize("name", IDS)
def test_a_published_checkpoint_is_recognised_and_cut(name: str, tmp_path: Path) -> None:
    """What is left is what transformers builds from the rewritten configuration, under the same names."""
    model = layout(name)
    dense = shapes_of(model.config)
    if model.total_size is not None:
        assert 2 * sum(map(prod, dense.values())) == model.total_size
    folders = {
        "published": write(tmp_path / "published", model.config, model.published(dense)),
        "modules": write(tmp_path / "modules", model.config, dense),
    }
    facts = read_facts(folders["published"])
    reports = {
        names: prune_checkpoint(folder, tmp_path / f"{names}-slim", DROP) for names, folder in folders.items()
    }
    config = json.loads((tmp_path / "published-slim" / "config.json").read_text())
    slim = shapes_of(config)
    for names, expected in (("published", model.published(slim)), ("modules", slim)):
        folder, report = tmp_path / f"{names}-slim", reports[names]
        checkpoint = open_checkpoint(folder)
        assert {key: entry.shape for key, entry in checkpoint.tensors.items()} == expected
        assert {entry.dtype for entry in checkpoint.tensors.values()} == {"BF16"}
        index = json.loads((folder / INDEX).read_text())
        assert index["metadata"]["total_size"] == report.weight_bytes_after == checkpoint.weight_bytes
        assert set(index["weight_map"]) == set(expected)
        assert checkpoint.layers == checkpoint.facts.layers == facts.layers - len(DROP)
        assert checkpoint.config == config
        assert sum(file.stat().st_blocks for file in folder.iterdir()) * 512 < 64 << 20
    before, after = _fields(model.config), _fields(config)
    changed = {field for field in {*before, *after} if before.get(field) != after.get(field)}
    assert changed == set(report.config_changes)
    # Nothing but the depth, a count beyond it, and the list that no longer follows from numbers.
    windows = {"layer_types"} if name in ("gemma3-4b", "paligemma2-3b") else set()
    names_of = {field.rpartition(".")[2] for field in changed}
    assert {"num_hidden_layers"} | windows <= names_of <= {"num_hidden_layers", "max_window_layers"} | windows
    kinds = _kinds(model.config)
    assert _kinds(config) == (kinds and [kinds[layer] for layer in report.kept])


@pytest.mark.parametrize("name", [name for name in IDS if find_known_model(name)])
def test_a_known_model_is_the_published_one(name: str) -> None:
    """What plans read of a model by its name is what they read of its config.json."""
    known = known_model(name)
    assert ModelFacts(layout(name).config, known.preprocessor, known.videos).shape == known.shape()


@pytest.mark.parametrize(
    ("family", "decoder", "name"),
    [
        ("llava_next", "llama", "llava-next-8b"),
        ("qwen2_5_vl", "qwen2_5_vl_text", "qwen2.5-vl-3b"),
        ("qwen3_vl", "qwen3_vl_text", "qwen3-vl-2b"),
        ("smolvlm", "llama", "smolvlm2-256m"),
        ("internvl", "qwen2", "internvl3-1b"),
        ("gemma3", "gemma3_text", "gemma3-4b"),
        ("paligemma", "gemma2", "paligemma2-3b"),
        ("llava", "mistral", "pixtral-12b"),
    ],
)
def test_the_published_names_are_those_that_transformers_loads(
    family: str, decoder: str, name: str, tmp_path: Path
) -> None:
    """The names written down here, asked of transformers: a small model under them loads whole."""
    from safetensors.torch import save_file

    model = small_model(family, decoder)
    state = dict(model.state_dict())
    published = layout(name).published({key: tuple(value.shape) for key, value in state.items()})
    weights = {new: state[old].clone().contiguous() for new, old in zip(published, state, strict=True)}
    model.config.save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _, facts = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
