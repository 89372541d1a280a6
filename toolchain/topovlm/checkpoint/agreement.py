"""Whether a processor is the model's own: asked with a small picture, before anything that takes long.

Where the two disagree, transformers says so deep inside the model, in the middle of the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from topovlm.checkpoint.processors import OWN_PROCESSOR, processed_sample
from topovlm.errors import InputError, explain
from topovlm.families.facts import ModelFacts
from topovlm.families.family import Family
from topovlm.samples import Sample

_SIZE = (64, 48)  # width, height in px


def check_agreement(processor: Any, facts: ModelFacts, family: Family, folder: Path) -> None:
    """Raise `InputError` naming the file where the processor writes other tokens, or other sizes of pictures,
    than the model of `facts` takes."""
    from PIL import Image

    pictures = () if family.text_only else (Image.new("RGB", _SIZE, (90, 120, 150)),)
    values = processed_sample(
        processor, family, Sample(id=str(folder), images=pictures, prompt="Describe it.")
    )
    ids = values["input_ids"][0]
    vocabulary = facts.shape.decoder.vocab
    if int(ids.max()) >= vocabulary:
        rule = f"writes a token that the model does not have: its vocabulary holds {vocabulary}"
        raise InputError(
            explain("tokenizer.json: token id", int(ids.max()), rule, OWN_PROCESSOR).at(str(folder))
        )
    vision, token = facts.shape.vision, facts.image_token_id
    if vision is None or token is None:
        return
    size = tuple(values["pixel_values"].shape[-2:])
    if vision.image_size and size != (vision.image_size, vision.image_size):
        rule = f"makes pictures for a tower of another size: vision_config.image_size is {vision.image_size}"
        raise InputError(explain("preprocessor_config.json: size", size, rule, OWN_PROCESSOR).at(str(folder)))
    written = int((ids == token).sum())
    wanted = facts.visual_tokens(facts.workload(images=1, image_size=_SIZE[::-1]))
    if written != wanted:
        rule = f"tokens are written for a picture of which the model makes {wanted}"
        where = "processor_config.json: tokens of a picture"
        raise InputError(explain(where, written, rule, OWN_PROCESSOR).at(str(folder)))
