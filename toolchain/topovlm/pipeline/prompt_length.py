"""Whether the workload's prompt can be: as long as its template needs, no longer than the model's context."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from topovlm.config import Config
from topovlm.errors import InputError, explain
from topovlm.pipeline.constants import CONSTANTS, Constants
from topovlm.pipeline.measuring import timed_tokens
from topovlm.pipeline.question import workload_of
from topovlm.workload import Workload

if TYPE_CHECKING:
    from topovlm.families.facts import ModelFacts
    from topovlm.pipeline.context import Context


def with_prompt_length(context: Context) -> Context:
    """The same, its prompt's length said: see `settled`."""
    facts, processor = context.source.checkpoint.facts, context.dense.processor
    return replace(context, config=settled(context.config, facts, processor, context.constants))


def settled(config: Config, model: ModelFacts, processor: Any, constants: Constants = CONSTANTS) -> Config:
    """Where nobody says how long the text is: the usual length, or as long as an empty question.

    Raises `InputError` for text shorter than that, for prompts beyond the model's context, and for pictures
    that the processor makes other tokens of than a plan counts.
    """
    template, visual = bare_tokens(config, model, processor)
    asked = max(Workload.prompt_tokens, template) if config.prompt_tokens is None else config.prompt_tokens
    if asked < template:
        rule = f"the chat template, and what it writes around pictures, takes {template} text tokens"
        raise InputError(explain("--prompt-tokens", asked, rule, f"Give at least {template}"))
    planned = model.visual_tokens(workload_of(config, model))
    if planned != visual:  # found out later, it would be after hours: prediction and measurement must agree
        rule = f"are what the model's processor makes of the pictures; a plan counts {planned}"
        remedy = "Its processor's settings are other than published ones: give it those"
        raise InputError(explain("visual tokens", visual, rule, remedy))
    longest, new = model.context_tokens, timed_tokens(config, constants)
    if longest is not None and visual + asked + new > longest:
        rule = f"with {visual} visual and {new} new tokens it passes the model's context of {longest} tokens"
        remedy = "Give fewer tokens with --prompt-tokens, --new-tokens, --images or --frames"
        raise InputError(explain("--prompt-tokens", asked, rule, remedy))
    return replace(config, prompt_tokens=asked)


def bare_tokens(config: Config, model: ModelFacts, processor: Any) -> tuple[int, int]:
    """Text and visual tokens of an empty question about the workload's pictures, as the processor has it."""
    from PIL import Image

    from topovlm.checkpoint.processors import processed
    from topovlm.families.catalogue import family_of
    from topovlm.videos.frames import Frames

    workload = workload_of(config, model)
    size = (workload.image_width, workload.image_height)
    pictures = [Image.new("RGB", size) for _ in range(workload.images)]
    videos = [Frames.flicker(size, workload.video_frames)] if workload.video_frames else []
    ids = processed(processor, family_of(model.config), pictures, "", videos)["input_ids"][0].tolist()
    token = model.video_token_id if videos else model.image_token_id
    visual = ids.count(token) if pictures or videos else 0
    return len(ids) - visual, visual
