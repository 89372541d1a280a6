"""Idefics3 around the reference's tower: configuration, tokenizer, and the folder that is released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from topovlm.artifacts import read_json
from topovlm.reference.architecture import ASSISTANT, CHAT_TEMPLATE, END, IMAGE, PAD, USER, build_tokenizer
from topovlm.reference.drawing import CANVAS
from topovlm.reference.packing import Layout
from topovlm.reference.published import publish

LAYERS = 12
_WIDTH, _INTERMEDIATE, _HEADS, _KV_HEADS = 128, 384, 4, 2
_TOWER_LAYERS, _PATCH = 4, 8
FAKE, GLOBAL, UTTERANCE = OWN = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
_VOCAB, _ROOM = 640, 648  # merges of the tokenizer; rows of the table, with OWN and padding
LAYOUT = Layout(length=192, before=(FAKE, GLOBAL), after=(FAKE,))
CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
---
# A small Idefics3, trained plainly

A benchmark of topovlm: SigLIP tower of 4 layers, Llama decoder of 12 layers and width 128, pictures of
48 x 48 pixels, stock `Idefics3ForConditionalGeneration`. Trained by `python -m benchmarks.plain train` on the
pictures and questions of the reference model, all layers in every step.
"""


def tokenizer_of(seed: int) -> Tokenizer:
    """The reference's, with the tokens that Idefics3 puts around pictures."""
    made = build_tokenizer(_VOCAB, seed)
    made.add_special_tokens(list(OWN))
    return made


def new_model(tokenizer: Tokenizer, seed: int) -> Any:
    """`Idefics3ForConditionalGeneration` in float32: the reference's tower, everything else drawn."""
    import torch
    from safetensors.torch import load_file
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    from topovlm.reference import model_dir

    ids = {name: tokenizer.token_to_id(name) for name in (PAD, END, IMAGE)}
    text = {
        "model_type": "llama",
        "vocab_size": _ROOM,
        "hidden_size": _WIDTH,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
    }
    vision = {
        "hidden_size": _WIDTH,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _TOWER_LAYERS,
        "num_attention_heads": _HEADS,
        "image_size": CANVAS,
        "patch_size": _PATCH,
    }
    kind: Any = Idefics3Config  # its fields are untyped in transformers
    config = kind(
        vision_config=vision,
        text_config=text,
        image_token_id=ids[IMAGE],
        scale_factor=1,
        tie_word_embeddings=True,
        pad_token_id=ids[PAD],
    )
    config.eos_token_id = ids[END]
    torch.manual_seed(seed)
    made: Any = Idefics3ForConditionalGeneration(config)
    model = made.float()
    mark = "vision_tower.vision_model."
    held = {
        name.partition(mark)[2]: value.float()
        for name, value in load_file(model_dir() / "model.safetensors").items()
        if mark in name
    }
    model.model.vision_model.load_state_dict(held)
    return model


def write_checkpoint(folder: Path, weights: dict[str, Any], seed: int) -> Path:
    """A stock folder in float16. `weights`: the model's state."""
    import torch
    import transformers

    stock: Any = transformers  # much of it is untyped
    tokenizer = tokenizer_of(seed)
    model = new_model(tokenizer, seed)
    model.load_state_dict(weights)
    model.tie_weights()
    model.generation_config = stock.GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        max_new_tokens=48,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    fast = stock.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE, *OWN],
        padding_side="left",
        model_max_length=2048,
    )
    images = stock.Idefics3ImageProcessorPil(
        size={"longest_edge": CANVAS},
        max_image_size={"longest_edge": CANVAS},
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = stock.Idefics3Processor(
        image_processor=images,
        tokenizer=fast,
        image_seq_len=(CANVAS // _PATCH) ** 2,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    # transformers 5 nests the image processor in processor_config.json; other runtimes read this file.
    (folder / "preprocessor_config.json").write_text(
        json.dumps(images.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    settings = read_json(folder / "tokenizer_config.json")
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    publish(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder
