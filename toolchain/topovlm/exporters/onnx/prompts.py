"""Prompts that exercise an exported folder: pictures and words of two lengths, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topovlm.artifacts import read_json
from topovlm.exporters.onnx.manifest import RuntimeFile
from topovlm.families.configs import context_tokens

_WORDS = (5, 14)
_SEED = 20260


@dataclass(frozen=True)
class Prompt:
    """input_ids int64 `[S]` with the image tokens in place; pixels float32 `[n, 3, H, W]` in [-1, 1]."""

    name: str
    input_ids: np.ndarray
    pixels: np.ndarray


def make_prompts(folder: Path, content: RuntimeFile, new_tokens: int) -> list[Prompt]:
    """One picture with few random words; two pictures (if they fit the context) with more words."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    context = context_tokens(read_json(folder / "config.json")) or 1 << 30
    prompt = content.prompt
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    vocab = min(content.decoder.vocab, tokenizer.get_vocab_size())
    words = [i for i in range(vocab) if (tokenizer.id_to_token(i) or "") not in special]
    image_ids = _encode_image(tokenizer, prompt.image, content.image_token_id, content.tokens_per_image)
    prefix = tokenizer.encode(prompt.prefix, add_special_tokens=False).ids
    suffix = tokenizer.encode(prompt.suffix, add_special_tokens=False).ids
    rng = np.random.default_rng(_SEED)
    prompts = []
    for count, length in zip((1, 2), _WORDS, strict=True):
        fixed = len(prefix) + len(suffix) + length + new_tokens
        pictures = count if count * len(image_ids) + fixed <= context else 1
        ids = [*prefix, *image_ids * pictures, *rng.choice(words, length).tolist(), *suffix]
        size = (pictures, 3, content.image.height, content.image.width)
        pixels = rng.uniform(-1, 1, size).astype(np.float32)
        name = f"{pictures} picture{'s' * (pictures > 1)}, {length} words"
        prompts.append(Prompt(name, np.asarray(ids, np.int64), pixels))
    return prompts


def _encode_image(tokenizer: Any, piece: str, image_id: int, per_image: int) -> list[int]:
    """The picture's piece of the template as ids, its image token repeated."""
    ids: list[int] = []
    for i, text in enumerate(piece.split(tokenizer.id_to_token(image_id))):
        ids += [image_id] * per_image if i else []
        ids += tokenizer.encode(text, add_special_tokens=False).ids
    return ids
