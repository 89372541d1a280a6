"""A checkpoint's chat template: where it lies, and what it says of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from topovlm.artifacts import read_json
from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig, image_token_id
from topovlm.families.family import Family
from topovlm.runtime.template import with_pictures


def chat_template(
    folder: Path, config: ModelConfig, family: Family, token: Callable[[int], str | None]
) -> str:
    """As text, with what the family writes for pictures where the template is the tokenizer's alone.

    `token`: the text of a token id. Raises `InputError` for a checkpoint without one.
    """
    template = _stored(folder)
    if family.turns is None:
        return template
    number = image_token_id(config, family.defaults)
    mark = None if number is None else token(number)
    if mark is None:
        raise InputError(explain("token id", number, "is not in the tokenizer", "Give the model its own"))
    return with_pictures(template, system=family.turns.system, mark=mark)


def _stored(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("processor_config.json", "chat_template.json", "tokenizer_config.json"):
        held = read_json(folder / name).get("chat_template") if (folder / name).is_file() else None
        if isinstance(held, str):
            return held
    rule = "the checkpoint has no chat template"
    raise InputError(explain("chat_template.jinja", str(folder), rule, "Add one: prompts are made with it"))
