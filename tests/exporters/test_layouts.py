"""The text files of an exported folder tell the truth about its graphs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tokenizers import Tokenizer, processors

from tests import tiny, tiny_families
from topovlm.errors import InputError
from topovlm.exporters.onnx import layouts
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.onnx.readiness import check_checkpoint
from topovlm.exporters.protocol import ExportRecord
from topovlm.runtime.prompt import prompter_of
from topovlm.runtime.runtime_file import MANIFEST_NAME, DecoderSizes, read_runtime_file

Exported = tuple[Path, ExportRecord]


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _tokenizer(folder: Path) -> object:
    """The tokenizer of a checkpoint as transformers runs it, where it has a fast one: all that is written."""
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import AutoTokenizer

    tokenizer: object = AutoTokenizer.from_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_processor_of_the_folder_counts_the_graphs_tokens(
    family: str, request: pytest.FixtureRequest
) -> None:
    """transformers' own processor, loaded from the exported folder, and ours make one picture 16 tokens."""
    from transformers import AutoProcessor

    folder = request.getfixturevalue(f"{family}_export")[0]
    processor = AutoProcessor.from_pretrained(folder)
    ids = processor(images=tiny.picture(0, 32), text=tiny.IMAGE)["input_ids"][0]
    manifest = read_runtime_file(folder)
    assert ids.count(manifest.image_token_id) == 16
    ours = prompter_of(folder).prepare([tiny.picture(0, 32)], "")
    assert ours.picture_tokens == 16
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
    assert manifest["decoder"] == {
        "layers": 6,
        "hidden": 64,
        "kv_heads": 2,
        "head_dim": 16,
        "vocab": vocab,
        "rows": 1,
        "stacked": 0,
    }
    assert manifest["eos_token_ids"] == [tiny.SPECIALS.index(tiny.END)]
    assert (manifest["model_type"], manifest["strategy"]) == ("llava", "fixed")
    assert (manifest["positions"], manifest["first_position"]) == ("sequential", 0)
    assert manifest["mask"] == "causal"
    assert manifest["prompt"] == {"form": "template", "add_special_tokens": False, "parts": True}


@pytest.fixture
def own_template(tiny_siglip_qwen2: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of the checkpoint with a chat template and a word with which every text begins ("": none)."""

    def build(template: str, bos: str) -> Path:
        source = tmp_path / "model"
        shutil.copytree(tiny_siglip_qwen2, source, ignore=shutil.ignore_patterns("*.safetensors"))
        (source / "chat_template.jinja").write_text(template)
        if bos:
            tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
            token = (bos, tokenizer.token_to_id(bos))
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", special_tokens=[token]
            )
            tokenizer.save(str(source / "tokenizer.json"))
            config = {**_json(source / "tokenizer_config.json"), "bos_token": bos}
            (source / "tokenizer_config.json").write_text(json.dumps(config))
        return source

    return build


TURN = (
    "{{% for p in messages[0].content %}}{{% if p.type == 'image' %}}<image>{{% else %}}{words}"
    "{{% endif %}}{{% endfor %}}<|end|>"
)


@pytest.mark.parametrize(
    ("template", "bos"),
    [
        (TURN.format(words="{{ p.text }}"), ""),
        (TURN.format(words="\n{{ p.text }}"), ""),
        (TURN.format(words="{{ p.text }}"), tiny.PAD),
        ("{{ bos_token }}" + TURN.format(words="{{ p.text }}"), tiny.PAD),
    ],
    ids=["plain", "words behind a newline", "the tokenizer begins", "the template begins"],
)
def test_prompts_are_those_of_the_checkpoints_processor(
    own_template: Callable[[str, str], Path],
    siglip_export: Exported,
    tmp_path: Path,
    template: str,
    bos: str,
) -> None:
    """Whoever writes the first token, the template or the tokenizer, it is there once, as in transformers."""
    from transformers import AutoProcessor

    source, out = own_template(template, bos), tmp_path / "out"
    sizes = DecoderSizes(layers=6, hidden=64, kv_heads=2, head_dim=16, vocab=320)
    shutil.copytree(siglip_export[0] / "onnx", out / "onnx")
    graphs = {part: layouts.graph_path(part) for part in ("vision", "embed", "decoder")}
    layouts.write_texts(source, out, graphs=graphs, decoder=sizes, processor=_tokenizer(source))
    prompter = prompter_of(out)
    picture = tiny.picture(0, 32)
    content = [{"type": "image", "image": picture}] * 2 + [{"type": "text", "text": "Left or right?"}]
    want = AutoProcessor.from_pretrained(source).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"][0]
    assert prompter.prepare([picture] * 2, "Left or right?").ids.tolist() == list(want)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (("chat_template.jinja",), "chat template"),
        (("processor_config.json", "preprocessor_config.json"), "image processor"),
        (("tokenizer.json",), "tokenizer"),
    ],
)
def test_checkpoint_without_its_processor_files_is_refused(
    siglip_export: Exported,
    tiny_siglip_qwen2: Path,
    tmp_path: Path,
    missing: tuple[str, ...],
    message: str,
) -> None:
    """The missing file is named, with what to do."""
    source, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_siglip_qwen2, source, ignore=shutil.ignore_patterns(*missing, "*.safetensors"))
    shutil.copytree(siglip_export[0] / "onnx", out / "onnx")
    sizes = DecoderSizes(layers=6, hidden=64, kv_heads=2, head_dim=16, vocab=320)
    graphs = {part: layouts.graph_path(part) for part in ("vision", "embed", "decoder")}
    with pytest.raises(InputError, match=message):
        layouts.write_texts(source, out, graphs=graphs, decoder=sizes, processor=_tokenizer(source))


def test_sizes_of_the_tower_may_be_left_out(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """transformers' defaults count then: 224 pixels in patches of 16 for SigLIP."""
    source, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_siglip_qwen2, source, ignore=shutil.ignore_patterns("*.safetensors"))
    config = _json(source / "config.json")
    for name in ("image_size", "patch_size"):
        config["vision_config"].pop(name)
    (source / "config.json").write_text(json.dumps(config))
    processor = _json(source / "processor_config.json")
    processor.pop("patch_size")
    (source / "processor_config.json").write_text(json.dumps(processor))
    vision = onnx.load(siglip_export[0] / "onnx/vision_encoder.onnx")
    vision.graph.output[0].type.tensor_type.shape.dim[1].dim_value = (224 // 16) ** 2 + 1
    (out / "onnx").mkdir(parents=True)
    onnx.save(vision, out / "onnx/vision_encoder.onnx")
    sizes = DecoderSizes(layers=6, hidden=64, kv_heads=2, head_dim=16, vocab=320)
    graphs = {"vision": "onnx/vision_encoder.onnx"}
    layouts.write_texts(source, out, graphs=graphs, decoder=sizes, processor=_tokenizer(source))
    made = _json(out / "processor_config.json")
    assert (made["patch_size"], made["num_additional_image_tokens"]) == (16, 1)


def test_pictures_of_any_size_have_no_number_of_tokens(siglip_export: Exported, tmp_path: Path) -> None:
    """LLaVA around Pixtral's tower: what clients read is the checkpoint's own processor, nothing added."""
    source, out = tiny_families.build(tmp_path / "model", "llava-pixtral-mistral", layers=2), tmp_path / "out"
    shutil.copytree(siglip_export[0] / "onnx", out / "onnx")
    sizes = DecoderSizes(layers=2, hidden=64, kv_heads=2, head_dim=16, vocab=320)
    graphs = {"vision": "onnx/vision_encoder.onnx"}
    layouts.write_texts(source, out, graphs=graphs, decoder=sizes, processor=_tokenizer(source))
    own, made = _json(source / "processor_config.json"), _json(out / "processor_config.json")
    assert made.keys() == own.keys()
    assert all(made[name] == own[name] for name in own if name != "image_processor")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"schema": 1}, "has schema 1, this topovlm reads 2.*Export again"),
        ({"decoder": {"layers": "six"}}, "decoder"),
        ({"mask": "none"}, r"\$\.mask"),
        ({"prompt": None}, "prompt"),
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


def test_special_tokens_of_older_checkpoints(tmp_path: Path) -> None:
    """Kept in special_tokens_map.json, they are what transformers lets the chat template name."""
    folder = tiny_families.build(tmp_path / "x", "llava-clip-llama", layers=2)
    settings = _json(folder / "tokenizer_config.json")
    ends = {"eos_token": {"content": settings.pop("eos_token"), "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(ends))
    template = folder / "chat_template.jinja"
    template.write_text("{{ eos_token }}" + template.read_text())
    check_checkpoint(folder)
    export_onnx(folder, tmp_path / "out", variants=("plain",))  # the gate compares prompts, too
    assert prompter_of(tmp_path / "out").text("hi", []).startswith("</s>USER: hi")
