"""Tiny random LLaVA checkpoints that behave like real ones on disk: two tower/decoder pairs, real tokenizer.

Weights are drawn anew at a scale where logits spread and every block matters: at transformers' own
initialisation nearly all outputs coincide and a test would pass for the wrong reason.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from topovlm.samples import Sample

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

SPECIALS = PAD, USER, ASSISTANT, END, IMAGE = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<|user|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|end|>"
    "{% else %}<|assistant|>{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PROMPTS = (
    "What colour is the circle?",
    "How many squares are there?",
    "Describe the picture.",
    "Which one is left of the red triangle? A. circle B. square",
    "Count: 1 2 3 4 5",
    "Is the bar for June higher than the bar for May?",
)
FAMILIES = ("siglip-qwen2", "clip-llama")


def tokenizer_object(vocab: int = 320) -> Tokenizer:
    """A byte-level BPE of at most `vocab` entries trained on `PROMPTS`; any text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROMPTS * 4, trainer)
    return tokenizer


def _redraw(model: torch.nn.Module, seed: int) -> None:
    """Matrices ~ N(0, 2/fan_in), embeddings N(0, 9/width), norms 1 + N(0, 0.04), biases N(0, 0.01)."""
    import torch

    for name, value in model.named_parameters():
        # One stream per tensor name: adding a layer does not change the others.
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
        noise = torch.randn(value.shape, generator=generator)
        with torch.no_grad():
            if "norm" in name:
                value.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                value.copy_(noise * 3 / value.shape[-1] ** 0.5)
            elif "position_embedding" in name or value.ndim == 1:
                value.copy_(0.3 * noise if value.ndim > 1 else 0.1 * noise)
            else:
                value.copy_(noise * (2 / value[0].numel()) ** 0.5)


def _configs(
    family: str,
    layers: int,
    width: int,
    image_size: int,
    vocab: int,
    *,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
) -> dict[str, Any]:
    from transformers import CLIPVisionConfig, LlamaConfig, Qwen2Config, SiglipVisionConfig

    text_facts = {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": SPECIALS.index(PAD),
        "bos_token_id": None,
        "eos_token_id": SPECIALS.index(END),
        **(text or {}),
    }
    vision_facts = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": 8,
        **(vision or {}),
    }
    if family == "siglip-qwen2":
        return {
            "vision_config": SiglipVisionConfig(**vision_facts, vision_use_head=False),
            "text_config": Qwen2Config(**text_facts, tie_word_embeddings=True, max_window_layers=layers),
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
            "tie_word_embeddings": True,
        }
    if family == "clip-llama":
        return {
            "vision_config": CLIPVisionConfig(**vision_facts, projection_dim=32),
            "text_config": LlamaConfig(**text_facts, tie_word_embeddings=False),
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "tie_word_embeddings": False,
        }
    raise ValueError(f"unknown tiny family {family!r}; known: {FAMILIES}")


def build(
    folder: Path,
    family: str = "siglip-qwen2",
    *,
    layers: int = 6,
    width: int = 64,
    image_size: int = 32,
    seed: int = 0,
    dtype: str = "float32",
    model_type: str = "llava",
    max_shard_size: str = "5GB",
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint folder: model, tokenizer, processor, chat template, card. Returns `folder`.

    `text`, `vision`, `top`: configuration fields that differ from the tiny ones (None: left out).
    `model_type`: another family of the same layout that transformers knows.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

    tokenizer = tokenizer_object()
    facts = _configs(family, layers, width, image_size, tokenizer.get_vocab_size(), text=text, vision=vision)
    patch = facts["vision_config"].patch_size
    facts = {name: value for name, value in {**facts, **(top or {})}.items() if value is not None}
    config = AutoConfig.for_model(
        model_type,
        **facts,
        image_token_index=SPECIALS.index(IMAGE),
        image_seq_length=(image_size // patch) ** 2,
        pad_token_id=SPECIALS.index(PAD),
        eos_token_id=SPECIALS.index(END),
    )
    with torch.random.fork_rng():
        model = AutoModelForImageTextToText.from_config(config).eval()
    _redraw(model, seed)
    model = model.to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=SPECIALS.index(END), pad_token_id=SPECIALS.index(PAD), max_new_tokens=16
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    _save_processor(folder, tokenizer, family, image_size, patch)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nA random model for tests.\n")
    return folder


def _save_processor(folder: Path, tokenizer: Tokenizer, family: str, image_size: int, patch: int) -> None:
    from transformers import LlavaProcessor, PreTrainedTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    square = {"height": image_size, "width": image_size}
    if family == "siglip-qwen2":
        images: Any = SiglipImageProcessorPil(size=square, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    else:
        images = CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=square)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=PAD,
            eos_token=END,
            additional_special_tokens=[USER, ASSISTANT, IMAGE],
            padding_side="left",
        ),
        patch_size=patch,
        vision_feature_select_strategy="full" if family == "siglip-qwen2" else "default",
        num_additional_image_tokens=0 if family == "siglip-qwen2" else 1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    # transformers 5 nests the image processor in processor_config.json; other runtimes read this file.
    (folder / "preprocessor_config.json").write_text(json.dumps(images.to_dict(), indent=2, sort_keys=True))


def picture(seed: int, size: int = 48) -> Image.Image:
    """Coloured blocks on noise: every seed another picture, the same on every machine."""
    rng = np.random.default_rng([seed, 11])
    pixels = rng.integers(0, 60, (size, size, 3), dtype=np.uint8)
    for _ in range(3):
        top, left = rng.integers(0, size - 16, 2)
        pixels[top : top + 16, left : left + 16] = rng.integers(0, 256, 3, dtype=np.uint8)
    return Image.fromarray(pixels)


def samples(count: int, seed: int = 0, images: int = 1) -> list[Sample]:
    """Questions of different lengths, each about its own picture(s)."""
    return [
        Sample(
            id=f"tiny-{seed}-{index}",
            images=tuple(picture(1000 * seed + 10 * index + part) for part in range(images)),
            prompt=PROMPTS[index % len(PROMPTS)],
            answer="yes",
            group=f"tiny-{seed}-{index}",
        )
        for index in range(count)
    ]
