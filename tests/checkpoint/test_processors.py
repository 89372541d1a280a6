"""Processors: every family's loads, with or without the packages that only videos need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny, tiny_families
from topovlm.checkpoint.processors import load_processor, processor_class, still_pictures, tokenizer_of
from topovlm.errors import InputError


def _message(sample: Any, text_only: bool) -> list[dict[str, Any]]:
    parts = [*({"type": "image", "image": picture} for picture in sample.load_images())]
    content = sample.prompt if text_only else [*parts, {"type": "text", "text": sample.prompt}]
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("name", tiny_families.STOCK)
def test_a_loaded_processor_writes_what_the_saved_one_wrote(name: str, tmp_path: Path) -> None:
    """Ids and tensors of a prompt are those of the processor that was saved, under the family's class."""
    from tests.tiny_families.processors import processor_for
    from tests.tiny_families.words import WORDS, tokenizer_for

    tokenizer = tokenizer_for(WORDS[name])
    text_only = name in tiny_families.TEXT_ONLY
    saved = tokenizer if text_only else processor_for(name, tokenizer)
    tiny_families.build(tmp_path, name, layers=2)
    loaded = load_processor(tmp_path)
    if not text_only:  # of a tokenizer, transformers chooses the class by model type
        assert type(loaded).__name__ == type(saved).__name__
    assert tokenizer_of(loaded).get_vocab() == tokenizer.get_vocab()
    settings = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
    for sample in tiny_families.sample(name, 2):
        message = _message(sample, text_only)
        ours = loaded.apply_chat_template(message, tokenize=True, **settings)
        theirs = saved.apply_chat_template(message, tokenize=True, **settings)
        assert ours.keys() == theirs.keys()
        assert all((ours[key] == theirs[key]).all() for key in ours)


def test_a_processor_without_pictures_is_not_that_of_a_model_with_some(tmp_path: Path) -> None:
    """A class that transformers does not have leaves it with a tokenizer alone."""
    folder = tiny.build(tmp_path / "model")
    file = folder / "processor_config.json"
    stated = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**stated, "processor_class": "a/../../b"}))
    with pytest.raises(InputError, match="processor_class"):
        load_processor(folder)


def test_only_the_part_for_videos_is_left_out() -> None:
    """A class without that part is itself; one with it keeps its name, its methods and its other parts."""
    whole, kind = processor_class("LlavaProcessor"), processor_class("Qwen2VLProcessor")
    with still_pictures(whole) as still:
        assert still is whole
    with still_pictures(kind) as still:
        assert issubclass(still, kind)
        assert still.__name__ == "Qwen2VLProcessor"
        assert still.get_attributes() == ["image_processor", "tokenizer"]
        assert "video_processor" in kind.get_attributes()
