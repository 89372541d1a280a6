"""Prompts against transformers' own processor and chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.toy_export import TEMPLATE, Toy
from topovlm.errors import InputError
from topovlm.runtime.manifest import load_manifest
from topovlm.runtime.prompt import Prompter

TEXTS = ["What colour is it?", "  two  spaces\nand a line ", "naïve – 価格 🙂", "A) 3 B) 4", "a<|end|>b", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with a byte-level BPE tokenizer trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<unk>", "<image>", "<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    path = Toy(vocab=400).write(tmp_path_factory.mktemp("prompt") / "x")
    tokenizer.save(str(path / "tokenizer.json"))
    return path


# Turns written by templates: words at once, behind a newline, before the pictures, twice.
TEMPLATES = {
    "at once": TEMPLATE,
    "behind a newline": TEMPLATE.replace("{{ c.text }}", "{{ '\\n' + c.text | trim }}"),
    "before the pictures": (
        "{% for m in messages %}{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}"
        "{% for c in m.content if c.type == 'image' %}<image>{% endfor %}<|end|>{% endfor %}<|assistant|>"
    ),
    "counted": TEMPLATE.replace("<image>", "{{ loop.index }}: <image>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_equals_the_chat_template(folder: Path, tmp_path: Path, name: str) -> None:
    """Token ids are those of apply_chat_template plus the LLaVA processor, for 0 to 3 pictures."""
    from transformers import LlavaProcessor, PreTrainedTokenizerFast
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|end|>",
        extra_special_tokens={"image_token": "<image>"},
    )
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size={"height": 8, "width": 8}),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATES[name],
    )
    copy = shutil.copytree(folder, tmp_path / "x")
    (copy / "chat_template.jinja").write_text(TEMPLATES[name])
    prompter = Prompter(load_manifest(copy))
    for images in range(4):
        for text in TEXTS:
            pictures = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(images)]
            content = [{"type": "image", "image": p} for p in pictures] + [{"type": "text", "text": text}]
            want = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="np",
            )
            found = prompter.prepare(pictures, text)
            np.testing.assert_array_equal(found.ids, want["input_ids"][0])
            np.testing.assert_array_equal(found.positions, np.arange(len(found.ids)))
            assert found.next_position == len(found.ids)
            assert found.picture_tokens == 4 * images
            for run in found.pictures:  # all at once: whole pictures join
                np.testing.assert_allclose(run["pixel_values"], want["pixel_values"], atol=2e-6)
            assert len(found.pictures) == min(images, 1)


@pytest.mark.parametrize("facts", [{"first_position": 1}, {"mask": "prefix"}, {"mask": "blocks"}], ids=str)
def test_rules_of_the_family(tmp_path: Path, facts: dict[str, Any]) -> None:
    """Where positions begin, and which tokens see each other whole: pictures apart, or the whole prompt."""
    path = Toy().write(tmp_path / "x")
    file = path / "topovlm_runtime.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))
    # Something between two pictures: without it they would be one block.
    (path / "chat_template.jinja").write_text(TEMPLATE.replace("<image>", "<image>blue"))
    found = Prompter(load_manifest(path)).prepare([Image.new("RGB", (8, 8))] * 2, "red")
    first = facts.get("first_position", 0)
    size = len(found.ids)
    np.testing.assert_array_equal(found.positions, np.arange(first, first + size))
    assert found.next_position == first + size
    inside = found.ids == found.image_token_id
    if facts.get("mask") == "prefix":
        assert found.block_ids is not None
        assert found.block_ids.tolist() == [1] * size
    elif facts.get("mask") == "blocks":
        assert found.block_ids is not None
        assert found.block_ids[inside].tolist() == [1] * 4 + [2] * 4
        assert not found.block_ids[~inside].any()
    else:
        assert found.block_ids is None


def test_answers_read_back(folder: Path) -> None:
    """Decoding drops special tokens and the blanks at both ends."""
    prompter = Prompter(load_manifest(folder))
    ids = prompter.tokenizer.encode(" naïve 価格<|end|>").ids
    assert prompter.decode(ids) == "naïve 価格"


def test_settings_saved_in_the_tokenizer_do_not_cut(folder: Path, tmp_path: Path) -> None:
    """Truncation and padding that a training run left in tokenizer.json are ignored."""
    prompter = Prompter(load_manifest(folder))
    picture = Image.new("RGB", (8, 8))
    want = prompter.prepare([picture], "What colour is it?").ids
    assert len(want) > 8
    data = json.loads((folder / "tokenizer.json").read_text())
    data["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    data["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<unk>",
    }  # fmt: skip
    path = Toy(vocab=400).write(tmp_path / "x")
    (path / "tokenizer.json").write_text(json.dumps(data))
    found = Prompter(load_manifest(path)).prepare([picture], "What colour is it?").ids
    np.testing.assert_array_equal(found, want)


def test_bad_folders(tmp_path: Path) -> None:
    """A template that loses pictures, an unknown strategy and a broken tokenizer are refused by name."""
    path = Toy().write(tmp_path / "x")
    picture, file = Image.new("RGB", (8, 8)), path / "topovlm_runtime.json"
    for lost in ("", "<image><image>"):
        (path / "chat_template.jinja").write_text(TEMPLATE.replace("<image>", lost))
        with pytest.raises(InputError, match=r"must hold <image> once per picture \(1\)"):
            Prompter(load_manifest(path)).prepare([picture], "x")
    (path / "chat_template.jinja").write_text(TEMPLATE)
    content = file.read_text()
    file.write_text(content.replace('"fixed"', '"folded"'))
    with pytest.raises(InputError, match=r"strategy.*folded.*Known: .*fixed"):
        Prompter(load_manifest(path)).prepare([picture], "x")
    file.write_text(content)
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer"):
        Prompter(load_manifest(path))


def test_words_as_they_are(tmp_path: Path) -> None:
    """A family without a chat template gets its words as they are."""
    path = Toy().write(tmp_path / "x")
    file = path / "topovlm_runtime.json"
    content = json.loads(file.read_text())
    content["prompt"]["form"] = "plain"
    file.write_text(json.dumps(content))
    prompter = Prompter(load_manifest(path))
    assert prompter.text("red blue", []) == "red blue"
    assert prompter.prepare([], "red blue").ids.tolist() == [10, 11]
