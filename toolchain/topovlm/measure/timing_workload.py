"""Prompts to time an engine with: the user's own, or synthetic ones of a given length."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from PIL import Image

from topovlm.errors import InputError, explain
from topovlm.measure.cells import context_limit, default_lengths
from topovlm.measure.settings import ProfileRequest
from topovlm.predict.profile import TimedWorkload
from topovlm.runtime.prompt import Prompter, Visual
from topovlm.travel.prompts import Prompt
from topovlm.videos.frames import Frames


class HasPrompter(Protocol):
    """An engine, or the half of one that makes prompts."""

    @property
    def prompter(self) -> Prompter: ...


@dataclass(frozen=True)
class TimingWorkload:
    """Prompts, run in turn, each answered with exactly `new_tokens` tokens (the end token does not stop).

    `images` per prompt, or `frames` of a video, of `image_size` (height, width) in px.
    """

    prompts: tuple[Prompt, ...]
    new_tokens: int
    images: int
    image_size: tuple[int, int]
    source: str  # `synthetic` or `samples`
    frames: int = 0

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError(explain("prompts", 0, "a timing run needs at least one prompt"))
        if self.new_tokens < 1:
            raise InputError(explain("new_tokens", self.new_tokens, "must be at least 1"))

    @property
    def prefill_tokens(self) -> int:
        """Median prompt length, visual tokens and template included."""
        return int(np.median([len(prompt.ids) for prompt in self.prompts]))

    @property
    def visual_tokens(self) -> int:
        """Of one prompt (of the first one)."""
        return self.prompts[0].picture_tokens

    def facts(self) -> TimedWorkload:
        """As it is stored: `prompt_tokens` (and their range) count text with its template only."""
        lengths = [len(prompt.ids) - prompt.picture_tokens for prompt in self.prompts]
        height, width = self.image_size if self.images or self.frames else (0, 0)
        return TimedWorkload(
            images=self.images,
            image_height=height,
            image_width=width,
            visual_tokens=self.visual_tokens,
            prompt_tokens=self.prefill_tokens - self.visual_tokens,
            prefill_tokens=self.prefill_tokens,
            new_tokens=self.new_tokens,
            prompt_tokens_range=(min(lengths), max(lengths)),
            source=self.source,
            video_frames=self.frames,
        )


@dataclass(frozen=True)
class Blank:
    """Noise pictures, or frames, and no words: what every synthetic prompt of a model begins from."""

    prompter: Prompter
    images: int
    image_size: tuple[int, int]
    seed: int = 0
    frames: int = 0

    @classmethod
    def of(
        cls,
        engine: HasPrompter,
        images: int,
        image_size: tuple[int, int] | None = None,
        seed: int = 0,
        *,
        frames: int = 0,
    ) -> Blank:
        """`image_size`: (height, width) in px, by default the model's own. A model may take no pictures.

        `frames`: of a video, in place of pictures.
        """
        manifest = engine.prompter.manifest
        size = image_size or manifest.facts.picture_size
        pictures = images if manifest.file.strategy and not frames else 0
        return cls(engine.prompter, pictures, size, seed, frames)

    @cached_property
    def visuals(self) -> list[Visual]:
        """The same noise for the same seed."""
        rng = np.random.default_rng(self.seed)
        shape = (*self.image_size, 3)
        noise = [
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for _ in range(self.images or self.frames)
        ]
        return [Frames.of(noise)] if self.frames else list(noise)

    @cached_property
    def prompt(self) -> Prompt:
        """The template and the pictures alone."""
        return self.prompter.prepare(self.visuals, "")

    @property
    def visual_tokens(self) -> int:
        return self.prompt.picture_tokens

    @property
    def text_tokens(self) -> int:
        """Of the template, and what is written around pictures and their tiles."""
        return len(self.prompt.ids) - self.visual_tokens

    def filled(self, prompt_tokens: int) -> Prompt:
        """With random words where words stand, so that the whole prompt has `prompt_tokens` tokens.

        Raises `InputError` when the template and the pictures alone are longer.
        """
        bare = self.prompt.ids
        if prompt_tokens < len(bare):
            shown = f"{self.frames} frames" if self.frames else f"{self.images} pictures"
            rule = f"{shown} and the chat template alone take {len(bare)} tokens"
            raise InputError(explain("prompt_tokens", prompt_tokens, rule))
        manifest, rng = self.prompter.manifest, np.random.default_rng([self.seed, 1])
        special = {*self.prompter.mark_ids, *manifest.eos_token_ids}
        # A tokenizer may know more words than the model has rows.
        known = min(self.prompter.tokenizer.get_vocab_size(), manifest.file.decoder.vocab)
        words = np.array([word for word in range(known) if word not in special])
        filler = rng.choice(words, prompt_tokens - len(bare))
        place = self._place(bare)
        ids = np.concatenate([bare[:place], filler, bare[place:]]).astype(np.int64)
        return self.prompter.with_visuals(ids, self.visuals)

    def _place(self, bare: np.ndarray) -> int:
        """Where words go: before all that a prompt with a word has in common at its end with one without."""
        worded = self.prompter.prepare(self.visuals, "a").ids
        shortest = min(len(bare), len(worded))
        equal = bare[::-1][:shortest] == worded[::-1][:shortest]
        return len(bare) - (shortest if equal.all() else int(equal.argmin()))


def synthetic_workload(
    engine: HasPrompter,
    *,
    images: int = 1,
    prompt_tokens: int | None = None,
    new_tokens: int = 8,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
    frames: int = 0,
) -> TimingWorkload:
    """One prompt of noise pictures and random words; `prompt_tokens` counts all tokens of the prefill.

    Default length: the template, the pictures (or `frames`) and 16 words. `image_size`: (height, width) in
    px. Raises `InputError` when the template and the pictures alone are longer, or the context is shorter.
    """
    blank = Blank.of(engine, images, image_size, seed, frames=frames)
    length = len(blank.prompt.ids) + 16 if prompt_tokens is None else prompt_tokens
    longest = engine.prompter.manifest.facts.context_tokens
    if longest is not None and length + new_tokens > longest:
        rule = f"with {new_tokens} new tokens it passes the model's context of {longest}"
        raise InputError(
            explain("prompt_tokens", length, rule, "Give fewer with --prompt-tokens, --images or --frames")
        )
    prompts = (blank.filled(length),)
    return TimingWorkload(prompts, new_tokens, blank.images, blank.image_size, "synthetic", frames)


def profile_workloads(
    engine: HasPrompter, request: ProfileRequest
) -> tuple[TimingWorkload, dict[int, TimingWorkload]]:
    """The workload that is asked for, and all prompt lengths to time with it, by length."""
    blank = Blank.of(engine, request.images, request.image_size, frames=request.frames)
    total = None if request.prompt_tokens is None else request.prompt_tokens + blank.visual_tokens
    make = partial(
        synthetic_workload,
        engine,
        images=request.images,
        frames=request.frames,
        new_tokens=request.timed_tokens,
        image_size=request.image_size,
    )
    base = make(prompt_tokens=total)
    limit = context_limit(engine.prompter.manifest.folder)
    shortest = len(blank.prompt.ids)
    lengths = request.lengths or default_lengths(shortest, base.prefill_tokens, limit, request.timed_tokens)
    others = {tokens: make(prompt_tokens=tokens) for tokens in lengths}
    return base, {base.prefill_tokens: base} | others
