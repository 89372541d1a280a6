"""Whether a checkpoint can go the whole way, asked of its files before any weight is read.

What an export writes, its runtime must run: the kinds of its layers, how its pictures are prepared, its chat
template. All of it is tried here with a small picture, so that nothing of it can fail after hours of work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from topovlm.artifacts import read_json
from topovlm.checkpoint.chat import chat_template
from topovlm.checkpoint.files import read_config, read_preprocessor, read_video_settings
from topovlm.errors import InputError, explain
from topovlm.exporters.onnx.layouts import image_settings, strategy_name, tokenizer_settings
from topovlm.families.catalogue import family_of
from topovlm.families.configs import ModelConfig
from topovlm.families.facts import ModelFacts

_PICTURES = 2  # most pictures that a prompt is tried with


def check_checkpoint(model_dir: Path, processor: object | None = None) -> None:
    """Raises `InputError`, naming the file and the field, for what an export or its runtime would refuse.

    `processor`: the checkpoint's, where somebody has loaded it already.
    """
    from topovlm.checkpoint.agreement import check_agreement
    from topovlm.checkpoint.loading import read_stock_config
    from topovlm.checkpoint.processors import load_processor
    from topovlm.exporters.onnx.graphs import check_family

    config = read_config(model_dir)
    family = family_of(config, "export")
    check_family(read_stock_config(model_dir))
    processor = processor or load_processor(model_dir)
    _check_prompts(model_dir, config, processor)
    check_agreement(processor, ModelFacts(config, read_preprocessor(model_dir, config)), family, model_dir)


def _check_prompts(model_dir: Path, config: ModelConfig, loaded: object) -> None:
    """Prompts with no, one and two small pictures, made as the runtime makes them."""
    from PIL import Image

    from topovlm.checkpoint.processors import fast_tokenizer
    from topovlm.runtime.pictures import strategy
    from topovlm.runtime.template import messages, render, special_tokens

    family = family_of(config, "export")
    name = strategy_name(config, family)
    tokenizer = fast_tokenizer(loaded, model_dir)
    plain = family.prompt == "plain"
    template = "" if plain else chat_template(model_dir, config, family, tokenizer.id_to_token)
    tokens = special_tokens(tokenizer_settings(model_dir))
    if name is None:
        render(template, messages(0, "words", parts=False), tokens=tokens)
        return
    images = image_settings(model_dir)
    processor = _held(model_dir / "processor_config.json")
    prepares = strategy(
        name,
        images=images,
        processor=processor,
        config=config,
        token=lambda i: _text(tokenizer, i),
        videos=read_video_settings(model_dir),
    )
    side = ModelFacts(config, images).shape.vision
    for count in range(_PICTURES + 1):
        seens = prepares.see_all([Image.new("RGB", (48, 32))] * count)
        rendered = render(template, messages(count, "words"), tokens=tokens) if template else "words"
        prepares.whole(rendered, seens)
        for seen in seens:
            _check_size(seen.feeds["pixel_values"].shape[-2:], side.image_size if side else 0)


def _check_size(size: tuple[int, ...], side: int) -> None:
    """Raises `InputError` where a tower for pictures of one size would be given another."""
    if side and size != (side, side):
        rule = f"makes pictures for a tower of another size: vision_config.image_size is {side}"
        raise InputError(
            explain("preprocessor_config.json: size", size, rule, "Use the model's own processor")
        )


def _held(file: Path) -> dict[str, Any]:
    return dict(read_json(file)) if file.is_file() else {}


def _text(tokenizer: Any, number: int) -> str:
    text = tokenizer.id_to_token(number)
    if text is None:
        raise InputError(explain("token id", number, "is not in the tokenizer", "Give the model its own"))
    return str(text)
