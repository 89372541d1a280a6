"""Tiny random checkpoints of every family, as published ones lie on disk, each with its real processor.

As in `tests.tiny`, weights are drawn anew at a scale where every block and every pixel matters.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import tiny
from tests.tiny_families.configs import FAMILIES, TEXT_ONLY, config_for, flat_for
from tests.tiny_families.original import ORIGINAL, model_of, save
from tests.tiny_families.processors import VIDEOS, processor_for
from tests.tiny_families.words import WORDS, tokenizer_for
from topovlm.samples import Sample
from topovlm.videos.frames import Frames

if TYPE_CHECKING:
    import torch

# Perception-LM and FastVLM have towers of timm, which the tests do without.
NAMES: tuple[str, ...] = (*TEXT_ONLY, *FAMILIES)
# Those that transformers has a class for.
STOCK: tuple[str, ...] = tuple(name for name in NAMES if name not in ORIGINAL)
WITH_VIDEOS: tuple[str, ...] = tuple(VIDEOS)
SIZES = ((40, 56), (72, 48))  # width, height in px


def build(
    folder: Path,
    name: str,
    *,
    layers: int = 8,
    seed: int = 0,
    dtype: str = "float32",
    **changes: dict[str, Any],
) -> Path:
    """Write a checkpoint folder: model, tokenizer, processor, chat template, card. Returns `folder`.

    `changes`: configuration fields that differ, by part: `text`, `vision`, `top`, and `pixels` (of the image
    processor). A field that is None is left out.
    """
    import torch
    from transformers import GenerationConfig

    words = WORDS[name]
    tokenizer = tokenizer_for(words)
    pixels = changes.pop("pixels", None)
    alone = name in TEXT_ONLY or name in ORIGINAL
    processor = tokenizer if alone else processor_for(name, tokenizer, pixels=pixels)
    config = config_for(name, words, tokenizer, layers, **changes)
    with torch.random.fork_rng():
        model = model_of(config, text_only=name in TEXT_ONLY).eval()
    redraw(model, seed)
    _never_answer_with_pictures(model)
    model = model.to(getattr(torch, dtype))
    stops = [tokenizer.convert_tokens_to_ids(token) for token in words.stops]
    settings: Any = GenerationConfig  # untyped in transformers
    model.generation_config = settings(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stops[0] if len(stops) == 1 else stops,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=16,
    )
    folder.mkdir(parents=True, exist_ok=True)
    if name in ORIGINAL:
        save(model, flat_for(name, words, tokenizer, layers, **changes), folder)
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _as_read(folder)
    if not alone:
        # transformers 5 nests the image processor in processor_config.json; other runtimes read this file.
        images = json.dumps(processor.image_processor.to_dict(), indent=2, sort_keys=True)
        (folder / "preprocessor_config.json").write_text(images)
    if name in VIDEOS:
        (folder / "video_preprocessor_config.json").write_text(json.dumps(VIDEOS[name], indent=2))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nA random model for tests.\n")
    return folder


def _as_read(folder: Path) -> None:
    """The tokenizer's file says what transformers makes of it: some classes have rules of their own."""
    from transformers import AutoTokenizer

    from topovlm.checkpoint.loading import read_stock_config

    tokenizers: Any = AutoTokenizer  # untyped in transformers
    config = read_stock_config(folder)
    tokenizers.from_pretrained(folder, config=config, local_files_only=True).backend_tokenizer.save(
        str(folder / "tokenizer.json")
    )


def _never_answer_with_pictures(model: Any) -> None:
    """As a trained model: no answer asks for another picture."""
    import torch

    config, head = model.config, model.get_output_embeddings()
    held = [getattr(config, name, None) for name in ("image_token_id", "video_token_id")]
    tokens = [*held, *(getattr(config, "visual_indicator_token_ids", None) or ())]
    with torch.no_grad():
        head.weight[[token for token in tokens if token is not None and token < len(head.weight)]] = 0


def redraw(model: torch.nn.Module, seed: int) -> None:
    """`tiny`'s scales, and those of what LLaVA has not: other norms, experts, layer scales, newlines."""
    import torch

    tiny._redraw(model, seed)
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    for name, value in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        factor, shift = 1.0, 0.0
        if "Gemma" in kinds[owner] and kinds[owner].endswith("RMSNorm"):
            # These multiply by 1 + weight. The last one makes up for the small embeddings below.
            factor, shift = 5.0 if leaf == "weight" and owner.endswith(".norm") else 1.0, -1.0
        elif "Gemma" in kinds[owner] and "embed_tokens" in name:
            factor = 0.15  # multiplied by the root of the width: tied, tokens would only repeat themselves
        elif "lambda_" in leaf:
            shift = 0.5
        elif leaf == "image_newline":
            factor = 10.0
        elif ".experts." in name:
            factor = (value[0].numel() / value.shape[-1]) ** 0.5
        elif "visual_embeddings_table" in name:
            factor = 3.0
        elif owner.endswith(".bn"):
            shift = float(leaf == "weight")  # a norm by another name
        elif "head_norm" in name:
            factor = 4.0  # a softmax over visual words that picks some
        with torch.no_grad():
            value.mul_(factor).add_(shift)


def sample(name: str, count: int, seed: int = 0, images: int = 1) -> list[Sample]:
    """Questions of different lengths about pictures of two sizes; none of those of a text-only model."""
    if name in TEXT_ONLY:
        images = 0
    return [
        Sample(
            id=f"{name}-{seed}-{index}",
            images=tuple(
                tiny.picture(1000 * seed + 10 * index + part, 80).crop((0, 0, *SIZES[(index + part) % 2]))
                for part in range(images)
            ),
            prompt=_question(index, parts=1 if images else 4 + index % 2),
            answer="yes",
            group=f"{name}-{seed}-{index}",
        )
        for index in range(count)
    ]


def video(seed: int, count: int = 4, size: tuple[int, int] = SIZES[0]) -> Frames:
    """`count` frames, each another picture, of a clip of 100 at 12.5 a second."""
    pictures = tuple(tiny.picture(seed + part, 80).crop((0, 0, *size)) for part in range(count))
    return Frames(pictures, tuple(index * 100 // count for index in range(count)), 12.5, 100)


def slow_video(seed: int) -> Frames:
    """Four frames: the second changes in a corner, the third not at all, the fourth everywhere."""
    first, *_, last = video(seed).pictures
    second = first.copy()
    second.paste(last.crop((0, 0, 16, 16)))
    return Frames((first, second, second, last), (0, 25, 50, 75), 12.5, 100)


def video_samples() -> list[Sample]:
    """Of an odd number of frames and an even one, of two sizes; one with a picture before it, one of two, one
    that hardly moves."""
    still = (tiny.picture(77, 80).crop((0, 0, *SIZES[1])),)
    asked = [
        Sample("one", (), tiny.PROMPTS[0], videos=(video(1),)),
        Sample("odd", (), tiny.PROMPTS[1], videos=(video(11, 3, SIZES[1]),)),
        Sample("still", still, tiny.PROMPTS[2], videos=(video(21, 4, SIZES[1]),)),
        Sample("two", (), tiny.PROMPTS[0], videos=(video(31), video(41, 4, SIZES[0]))),
        Sample("slow", (), tiny.PROMPTS[1], videos=(slow_video(51),)),
    ]
    return [replace(sample, answer="yes", group=sample.id) for sample in asked]


def samples(name: str) -> list[Sample]:
    """Questions of three lengths, about pictures of two sizes; one about two pictures."""
    return [*sample(name, 2), *sample(name, 1, 4, images=2)]


def _question(index: int, parts: int) -> str:
    """Without a picture a prompt is made longer than the sliding windows."""
    return " ".join(tiny.PROMPTS[(index + part) % len(tiny.PROMPTS)] for part in range(parts))
