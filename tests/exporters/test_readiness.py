"""What a dry run and `check` refuse: all that an export or its runtime would refuse after hours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_families
from topovlm import cli
from topovlm.errors import InputError
from topovlm.exporters import EXPORTERS
from topovlm.exporters.onnx.readiness import check_checkpoint
from topovlm.exporters.protocol import ExportRequest
from topovlm.families.catalogue import FAMILIES


def edited(source: Path, target: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a checkpoint with one JSON file changed; without it where the change takes all away."""
    shutil.copytree(source, target)
    data = json.loads((target / name).read_text())
    change(data)
    (target / name).write_text(json.dumps(data))
    return target


def padded(processor: dict[str, Any]) -> None:
    processor["image_processor"] |= {"do_pad": True, "pad_size": {"height": 64, "width": 64}}


def rope(config: dict[str, Any]) -> None:
    config["text_config"]["rope_parameters"] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}


WRONG = {
    "padding": ("processor_config.json", padded, "pad_size"),
    "rope": ("config.json", rope, "rope_type"),
    "tower": (
        "config.json",
        lambda c: c["vision_config"].update(model_type="vit"),
        "vision_config.model_type",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused_before_any_work(case: str, tiny_siglip_qwen2: Path, tmp_path: Path, capsys: Any) -> None:
    """By the exporter's check, which reads no weight, and by `deploy --dry-run`, with the field's name."""
    file, change, field = WRONG[case]
    folder = edited(tiny_siglip_qwen2, tmp_path / "x", file, change)
    weights = (folder / "model.safetensors").rename(tmp_path / "weights")
    with pytest.raises(InputError, match=field):
        EXPORTERS["onnx"].check(ExportRequest(model_dir=folder))
    weights.rename(folder / "model.safetensors")
    words = ["deploy", "--model", str(folder), "--target", "jetson-orin", "--sparsity", "25%", "--dry-run"]
    assert cli.main(words) == 2
    assert field in capsys.readouterr().err


def test_padding_that_pads_nothing_is_none(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """`do_pad` alone pads pictures of one batch to the largest: all are of one size already."""

    def pad(processor: dict[str, Any]) -> None:
        processor["image_processor"]["do_pad"] = True

    check_checkpoint(edited(tiny_siglip_qwen2, tmp_path / "x", "processor_config.json", pad))


def test_a_processor_of_another_size_is_refused(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """A tower for pictures of 32 px, a processor that makes 48: named before any weight is read."""

    def grow(processor: dict[str, Any]) -> None:
        images = processor.get("image_processor", processor)
        images["size"] = {"height": 48, "width": 48}

    folder = edited(tiny_siglip_qwen2, tmp_path / "x", "processor_config.json", grow)
    with pytest.raises(InputError, match=r"vision_config.image_size is 32"):
        check_checkpoint(folder)


def test_templates_are_tried(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """One that loses the pictures, one that refuses every conversation, and none at all."""
    for template in ("{{ messages[0].role }}", "{{ raise_exception('no') }}"):
        folder = shutil.copytree(tiny_siglip_qwen2, tmp_path / str(len(template)))
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(InputError, match=r"prompt|chat_template"):
            check_checkpoint(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="chat template"):
        check_checkpoint(folder)


EXPORTED = [
    name
    for name in tiny_families.NAMES
    if (kind := name.partition("-")[0].replace("paligemma2", "paligemma")) in FAMILIES
    and "export" in FAMILIES[kind].actions
]


@pytest.mark.parametrize("name", EXPORTED)
def test_every_family_that_is_exported_is_ready(name: str, tmp_path: Path) -> None:
    """Its own tiny checkpoint passes, pictures and template included."""
    check_checkpoint(tiny_families.build(tmp_path / name, name))
