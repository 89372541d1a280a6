"""Whether a model can be asked a set of samples: all of them looked at before any work is done.

Every prompt is written and counted; pictures are prepared only where a count may be near the context, and
for one sample of each number of pictures and videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from topovlm.checkpoint.loading import quiet_transformers
from topovlm.checkpoint.processors import check_asked, processed_sample, tokenizer_of
from topovlm.errors import InputError, explain, located
from topovlm.families.catalogue import family_of
from topovlm.families.facts import ModelFacts
from topovlm.pictures import picture_size
from topovlm.runtime.context_length import refuse_too_long
from topovlm.samples import Sample
from topovlm.videos.clip import Clip


def check_samples(processor: Any, model: ModelFacts, samples: Sequence[Sample], new_tokens: int) -> None:
    """Raises `InputError` naming file and line of the first sample that the model cannot be asked.

    That is: words that hold the mark of a picture, pictures that it does not take, or not so many, what its
    template refuses, and prompts that pass its context with `new_tokens` of an answer.
    """
    family, longest = family_of(model.config), model.context_tokens
    for sample in samples:
        text = check_asked(processor, family, sample)
        _check_piece(processor, model, sample)
        # A count from sizes may be off where pictures share a prompt: near the limit it is taken exactly.
        if longest is not None and 2 * (_roughly(processor, model, sample, text) + new_tokens) > longest:
            tokens = processed_sample(processor, family, sample)["input_ids"].shape[-1]
            refuse_sample_too_long(sample, tokens, new_tokens, longest)
    for sample in {(len(one.images), len(one.videos)): one for one in reversed(samples)}.values():
        processed_sample(processor, family, sample)


def refuse_sample_too_long(sample: Sample, tokens: int, new_tokens: int, longest: int | None) -> None:
    """As `refuse_too_long`, naming the sample's file and line."""
    try:
        refuse_too_long(sample.prompt, tokens, new_tokens, longest)
    except InputError as error:
        raise InputError(located(error, sample.source or sample.id)) from None


def _check_piece(processor: Any, model: ModelFacts, sample: Sample) -> None:
    """Raises `InputError` for words that hold the token of a piece: some templates write another."""
    if model.image_token_id is None:
        return
    piece = tokenizer_of(processor).convert_ids_to_tokens(model.image_token_id)
    if isinstance(piece, str) and piece in sample.prompt:
        rule = f"contains {piece}, which stands for a piece of a picture"
        raise InputError(explain("prompt", sample.prompt, rule).at(sample.source or sample.id))


def _roughly(processor: Any, model: ModelFacts, sample: Sample, text: str) -> int:
    """Tokens of the text, and what its pictures take by their sizes."""
    with quiet_transformers():
        words = len(tokenizer_of(processor)(text, add_special_tokens=False)["input_ids"])
    if model.shape.vision is None:
        return words
    films = [video.rule.most if isinstance(video, Clip) else len(video.pictures) for video in sample.videos]
    words += sum(map(model.most_film_tokens, films))
    sizes = map(picture_size, sample.images)
    return words + sum(model.visual_tokens(model.workload(images=1, image_size=size)) for size in sizes)
