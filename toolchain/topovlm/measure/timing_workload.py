"""Prompts to time an engine with: the user's own, or synthetic ones of a given length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.predict.profile import TimedWorkload
from topovlm.runtime.engine import Engine, Prepared


@dataclass(frozen=True)
class TimingWorkload:
    """Prompts, run in turn, each answered with exactly `new_tokens` tokens (the end token does not stop)."""

    prompts: tuple[Prepared, ...]
    new_tokens: int
    tokens_per_image: int
    source: str  # `synthetic` or `samples`

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError(explain("prompts", 0, "a timing run needs at least one prompt"))
        if self.new_tokens < 1:
            raise InputError(explain("new_tokens", self.new_tokens, "must be at least 1"))

    @property
    def images(self) -> int:
        """Pictures per prompt (of the first one)."""
        pixels = self.prompts[0].pixels
        return 0 if pixels is None else len(pixels)

    @property
    def prefill_tokens(self) -> int:
        """Median prompt length, visual tokens and template included."""
        return int(np.median([len(prompt.input_ids) for prompt in self.prompts]))

    def facts(self) -> TimedWorkload:
        """As it is stored: `prompt_tokens` (and their range) count text with its template only."""
        pixels = self.prompts[0].pixels
        visual = self.images * self.tokens_per_image
        lengths = [len(prompt.input_ids) - visual for prompt in self.prompts]
        return TimedWorkload(
            images=self.images,
            image_height=0 if pixels is None else pixels.shape[2],
            image_width=0 if pixels is None else pixels.shape[3],
            visual_tokens=visual,
            prompt_tokens=self.prefill_tokens - visual,
            prefill_tokens=self.prefill_tokens,
            new_tokens=self.new_tokens,
            prompt_tokens_range=(min(lengths), max(lengths)),
            source=self.source,
        )


def synthetic_workload(
    engine: Engine,
    *,
    images: int = 1,
    prompt_tokens: int | None = None,
    new_tokens: int = 8,
    seed: int = 0,
) -> TimingWorkload:
    """One prompt of noise pictures and random words; `prompt_tokens` counts all tokens of the prefill.

    Default length: the template, the pictures and 16 words. Raises `InputError` when the template and the
    pictures alone are longer.
    """
    rng = np.random.default_rng(seed)
    bare = engine.prompter.encode("", images)
    prompt_tokens = len(bare) + 16 if prompt_tokens is None else prompt_tokens
    if prompt_tokens < len(bare):
        rule = f"{images} pictures and the chat template alone take {len(bare)} tokens"
        raise InputError(explain("prompt_tokens", prompt_tokens, rule))
    manifest = engine.manifest
    special = {manifest.image_token_id, *manifest.eos_token_ids}
    words = np.array([i for i in range(engine.prompter.tokenizer.get_vocab_size()) if i not in special])
    suffix = len(engine.prompter.tokenizer.encode(manifest.prompt_suffix, add_special_tokens=False).ids)
    place = len(bare) - suffix
    filler = rng.choice(words, prompt_tokens - len(bare))
    ids = np.concatenate([bare[:place], filler, bare[place:]]).astype(np.int64)
    side = manifest.image.crop or manifest.image.size or (manifest.image.shortest_edge or 0,) * 2
    noise = [Image.fromarray(rng.integers(0, 256, (*side, 3), np.uint8)) for _ in range(images)]
    pixels = engine.prepare(noise, "").pixels if images else None
    return TimingWorkload((Prepared(ids, pixels),), new_tokens, manifest.tokens_per_image, "synthetic")
