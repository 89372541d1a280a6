"""Prompts against transformers' own processor and chat template."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError
from topovlm.runtime.manifest import load_manifest
from topovlm.runtime.prompt import Prompter

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
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
    path = Toy().write(tmp_path_factory.mktemp("prompt") / "x")
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_equals_the_chat_template(folder: Path) -> None:
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
        chat_template=TEMPLATE,
    )
    prompter = Prompter(load_manifest(folder))
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
            )["input_ids"][0]
            np.testing.assert_array_equal(prompter.encode(text, images), want)


def test_answers_read_back(folder: Path) -> None:
    """Decoding drops special tokens and the blanks at both ends."""
    prompter = Prompter(load_manifest(folder))
    ids = prompter.tokenizer.encode(" naïve 価格<|end|>").ids
    assert prompter.decode(ids) == "naïve 価格"


def test_settings_saved_in_the_tokenizer_do_not_cut(folder: Path, tmp_path: Path) -> None:
    """Truncation and padding that a training run left in tokenizer.json are ignored."""
    prompter = Prompter(load_manifest(folder))
    want = prompter.encode("What colour is it?", 1)
    data = json.loads((folder / "tokenizer.json").read_text())
    data["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    path = Toy().write(tmp_path / "x")
    (path / "tokenizer.json").write_text(json.dumps(data))
    np.testing.assert_array_equal(Prompter(load_manifest(path)).encode("What colour is it?", 1), want)


def test_bad_pieces(folder: Path, tmp_path: Path) -> None:
    """A picture piece with a wrong count of image tokens and a broken tokenizer are refused."""
    path = Toy().write(tmp_path / "x")
    file = path / "topovlm_runtime.json"
    data = json.loads(file.read_text())
    for piece in ("", "<image><image>"):
        data["prompt"]["image"] = piece
        file.write_text(json.dumps(data))
        with pytest.raises(InputError, match=r"prompt\.image"):
            Prompter(load_manifest(path)).encode("x", 1)
    data["prompt"]["image"] = "<image>" * 4
    file.write_text(json.dumps(data))
    assert Prompter(load_manifest(path)).text("red", 2).count("<image>") == 8
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer"):
        Prompter(load_manifest(path))
