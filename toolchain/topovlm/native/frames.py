"""A processor that makes the frames of a clip of each picture and video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchFeature, ProcessorMixin

from topovlm.errors import InputError, explain
from topovlm.families.facts import ModelFacts


class FrameProcessor(ProcessorMixin):
    """Texts in which one token marks each picture, and the pictures -> `input_ids`, `pixel_values`.

    A picture is every frame of its clip; videos come behind pictures, prepared by `films`. As in the model's
    own code the text is cut at the marks, and each piece becomes tokens by itself. The mark is a special
    token here, so that a runtime's tokenizer cuts there, too; an export's gate compares them.
    """

    def __init__(
        self, image_processor: Any, tokenizer: Any, chat_template: str | None = None, *, facts: ModelFacts
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        number = facts.image_token_id
        self.image_token_id = int(number or 0)
        self.image_token = tokenizer.convert_ids_to_tokens(number)
        self.video_token = self.image_token
        if self.image_token not in tokenizer.all_special_tokens:
            rule, remedy = "must be a special token: it marks pictures' places", "Give the model its own"
            raise InputError(explain(f"tokenizer.json: token {number}", self.image_token, rule, remedy))
        self.films: Any = None
        self.frames = facts.shape.clip_frames
        self.tokens = facts.visual_tokens(facts.workload(images=1))

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        videos: Any = None,
        video_metadata: Any = (),
        **_others: Any,
    ) -> BatchFeature:
        (words,) = [text] if isinstance(text, str) else text
        ids: list[int] = []
        for number, piece in enumerate(words.split(self.image_token)):
            ids += [self.image_token_id] * (self.tokens if number else 0)
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
        values = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
        clips, pictures = [], _flat(images)
        if pictures:
            pixels = self.image_processor(pictures, return_tensors="pt")["pixel_values"]
            clips.append(pixels.repeat_interleave(self.frames, 0))
        if videos is not None:
            films = self.films(videos, video_metadata=video_metadata)
            clips.append(films["pixel_values_videos"].flatten(0, 1))
        if clips:
            values["pixel_values"] = torch.cat(clips)
        return BatchFeature(values)


def _flat(images: Any) -> list[Any]:
    """Pictures of a batch of one, or of none."""
    if images is None:
        return []
    return [one for held in images for one in (_flat(held) if isinstance(held, Sequence) else [held])]
