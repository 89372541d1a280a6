"""The reference LVLM's configuration, tokenizer and processor: all stock transformers classes.

SigLIP tower (48 x 48 pixels, patches of 8, 36 visual tokens) -> two-layer projector -> Qwen2 decoder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.artifacts import read_json
from topovlm.reference.drawing import CANVAS
from topovlm.reference.makers import MAKERS
from topovlm.reference.published import publish

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlavaConfig, LlavaForConditionalGeneration

PAD, USER, ASSISTANT, END, IMAGE = SPECIALS = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|end|>' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{{ '<|end|>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """What the recipe may vary; widths in channels."""

    decoder_layers: int = 16
    width: int = 128
    intermediate: int = 384
    heads: int = 4
    kv_heads: int = 2
    vision_layers: int = 4
    patch: int = 8
    vocab: int = 640

    @property
    def image_tokens(self) -> int:
        return (CANVAS // self.patch) ** 2


def build_tokenizer(vocab: int, seed: int = 0, scenes_per_maker: int = 400) -> Tokenizer:
    """Byte-level BPE trained on the generator's own questions and answers; digits stay single."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    rng = np.random.default_rng([seed, 7])
    texts = []
    for maker in MAKERS.values():
        for _ in range(scenes_per_maker):
            texts += [part for q in maker(rng, "train").questions for part in (q.prompt, q.answer)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def build_config(size: Size, tokenizer: Tokenizer) -> LlavaConfig:
    from transformers import LlavaConfig, Qwen2Config, SiglipVisionConfig

    ids: dict[str, Any] = {token: tokenizer.token_to_id(token) for token in SPECIALS}
    text = Qwen2Config(
        vocab_size=size.vocab,
        hidden_size=size.width,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.decoder_layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        use_sliding_window=False,
        max_window_layers=size.decoder_layers,
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    vision = SiglipVisionConfig(
        hidden_size=size.width,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.heads,
        image_size=CANVAS,
        patch_size=size.patch,
        vision_use_head=False,
    )
    special: Any = {"pad_token_id": ids[PAD], "eos_token_id": ids[END]}
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids[IMAGE],
        image_seq_length=size.image_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
        **special,
    )


def save_checkpoint(
    model: LlavaForConditionalGeneration,
    tokenizer: Tokenizer,
    size: Size,
    folder: Path,
    extra: dict[str, str],
) -> None:
    """fp16 safetensors, tokenizer, processor, chat template; `extra` are further text files by name."""
    import torch
    import transformers

    stock: Any = transformers  # much of it is untyped
    folder.mkdir(parents=True, exist_ok=True)
    half = stock.AutoModelForImageTextToText.from_config(model.config, dtype=torch.float16)
    half.load_state_dict({name: value.half() for name, value in model.state_dict().items()})
    half.generation_config = stock.GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        max_new_tokens=48,
    )
    half.save_pretrained(folder)
    fast = stock.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE],
        padding_side="left",
        model_max_length=2048,
    )
    images = stock.SiglipImageProcessor(
        size={"height": CANVAS, "width": CANVAS}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = stock.LlavaProcessor(
        image_processor=images,
        tokenizer=fast,
        patch_size=size.patch,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    # transformers 5 nests the image processor in processor_config.json; other runtimes read this file.
    (folder / "preprocessor_config.json").write_text(
        json.dumps(images.to_dict(), indent=2, sort_keys=True) + "\n"
    )
    # A class name that transformers 4 and other runtimes know too.
    settings = read_json(folder / "tokenizer_config.json")
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    publish(folder)
    (folder / "model.safetensors").chmod(0o644)
    for name, text in extra.items():
        (folder / name).write_text(text)
