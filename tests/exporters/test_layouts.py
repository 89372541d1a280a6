"""The text files of an exported folder tell the truth about its graphs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from topovlm.errors import InputError
from topovlm.exporters.onnx import layouts
from topovlm.exporters.protocol import ExportRecord
from topovlm.runtime.runtime_file import MANIFEST_NAME, DecoderSizes, read_runtime_file

Exported = tuple[Path, ExportRecord]


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_processor_of_the_folder_counts_the_graphs_tokens(
    family: str, request: pytest.FixtureRequest
) -> None:
    """transformers' own processor, loaded from the exported folder, expands one picture to 16 tokens."""
    from transformers import AutoProcessor

    folder = request.getfixturevalue(f"{family}_export")[0]
    processor = AutoProcessor.from_pretrained(folder)
    ids = processor(images=tiny.picture(0, 32), text=tiny.IMAGE)["input_ids"][0]
    manifest = _json(folder / MANIFEST_NAME)
    assert ids.count(manifest["image_token_id"]) == manifest["tokens_per_image"] == 16
    # What transformers.js computes: grid + num_additional_image_tokens, whatever the strategy says.
    assert _json(folder / "processor_config.json")["num_additional_image_tokens"] == 0


def test_manifest_names_graphs_sizes_and_ends(siglip_export: Exported, tiny_siglip_qwen2: Path) -> None:
    """Everything that a runtime without transformers needs."""
    manifest = _json(siglip_export[0] / MANIFEST_NAME)
    assert manifest["graphs"] == {
        "vision": "onnx/vision_encoder.onnx",
        "embed": "onnx/embed_tokens.onnx",
        "decoder": "onnx/decoder_model_merged.onnx",
        "decoder_fused": "onnx/decoder_model_merged_fused.onnx",
    }
    vocab = _json(tiny_siglip_qwen2 / "config.json")["text_config"]["vocab_size"]
    assert manifest["decoder"] == {"layers": 6, "hidden": 64, "kv_heads": 2, "head_dim": 16, "vocab": vocab}
    assert manifest["eos_token_ids"] == [tiny.SPECIALS.index(tiny.END)]
    assert manifest["image"]["height"] == manifest["image"]["width"] == 32


def test_prompt_pieces_rebuild_the_chat_template(tiny_siglip_qwen2: Path) -> None:
    """prefix + pictures + words + suffix is what the Jinja template renders."""
    from transformers import AutoProcessor

    pieces = layouts.prompt_pieces(tiny_siglip_qwen2, tiny.CHAT_TEMPLATE, tiny.IMAGE)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Left or right?"}]
    processor = AutoProcessor.from_pretrained(tiny_siglip_qwen2)
    rendered = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    assert pieces.prefix + 2 * pieces.image + "Left or right?" + pieces.suffix == rendered
    assert pieces.add_special_tokens is False


@pytest.mark.parametrize(
    "template",
    [
        "{% for p in messages[0]['content'] %}{{ p.get('text', '<image>') }}{% endfor %}"
        "{{ messages[0]['content'] | length }}",  # counts the pictures after the words
        "{{ 'no words at all' }}",
    ],
)
def test_templates_of_another_shape_are_refused(tiny_siglip_qwen2: Path, template: str) -> None:
    """Better no export than prompts put together wrongly."""
    with pytest.raises(InputError, match="chat_template"):
        layouts.prompt_pieces(tiny_siglip_qwen2, template, tiny.IMAGE)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (("chat_template.jinja",), "chat template"),
        (("processor_config.json", "preprocessor_config.json"), "image processor"),
        (("tokenizer.json",), "tokenizer"),
    ],
)
def test_checkpoint_without_its_processor_files_is_refused(
    tiny_siglip_qwen2: Path, tmp_path: Path, missing: tuple[str, ...], message: str
) -> None:
    """The missing file is named, with what to do."""
    source, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_siglip_qwen2, source, ignore=shutil.ignore_patterns(*missing, "*.safetensors"))
    out.mkdir()
    sizes = DecoderSizes(layers=6, hidden=64, kv_heads=2, head_dim=16, vocab=320)
    with pytest.raises(InputError, match=message):
        layouts.write_texts(source, out, tokens_per_image=16, graphs={}, decoder=sizes)


def test_sizes_of_the_tower_may_be_left_out(tiny_siglip_qwen2: Path) -> None:
    """transformers' defaults count then: 224 pixels in patches of 16 for SigLIP."""
    config = _json(tiny_siglip_qwen2 / "config.json")
    for name in ("image_size", "patch_size"):
        config["vision_config"].pop(name)
    processor = _json(tiny_siglip_qwen2 / "processor_config.json")
    patch = processor.get("patch_size") or 16
    made = layouts._processor_config(tiny_siglip_qwen2, config, (224 // patch) ** 2 + 1)
    assert (made["patch_size"], made["num_additional_image_tokens"]) == (patch, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"schema": 2}, "has schema 2"),
        ({"decoder": {"layers": "six"}}, "decoder"),
        ({"image": None}, "image"),
    ],
)
def test_a_damaged_manifest_is_refused_by_field(
    siglip_export: Exported, tmp_path: Path, damage: dict[str, Any], message: str
) -> None:
    """Another schema, a wrong type, a missing part: one sentence with the file, no guess."""
    content = {**_json(siglip_export[0] / MANIFEST_NAME), **damage}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"{MANIFEST_NAME}.*{message}"):
        read_runtime_file(tmp_path)
