"""Whether the workload's prompt can exist at all: asked before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from topovlm.errors import InputError, explain
from topovlm.pipeline.measuring import timed_tokens
from topovlm.pipeline.question import workload_of
from topovlm.workload import Workload

if TYPE_CHECKING:
    from topovlm.pipeline.context import Context


def with_prompt_length(context: Context) -> Context:
    """Where nobody says how long the text is: the usual length, or as long as an empty question."""
    if context.config.prompt_tokens is not None:
        return context
    usual = max(Workload.prompt_tokens, template_tokens(context))
    return replace(context, config=replace(context.config, prompt_tokens=usual))


def check_prompt_length(context: Context) -> None:
    """Refuse text shorter than the chat template, and prompts beyond the model's context."""
    config, model = context.config, context.source.checkpoint.facts
    workload = workload_of(config, model)
    asked, template = workload.prompt_tokens, template_tokens(context)
    if asked < template:
        rule = f"the chat template, and what it writes around pictures, takes {template} text tokens"
        raise InputError(explain("--prompt-tokens", asked, rule, f"Give at least {template}"))
    visual = model.visual_tokens(workload)
    longest, new = model.context_tokens, timed_tokens(config, context.constants)
    if longest is not None and visual + asked + new > longest:
        rule = f"with {visual} visual and {new} new tokens it passes the model's context of {longest} tokens"
        remedy = "Give fewer tokens with --prompt-tokens, --new-tokens or --images"
        raise InputError(explain("--prompt-tokens", asked, rule, remedy))


def template_tokens(context: Context) -> int:
    """Text tokens of an empty question about the workload's pictures, as its processor writes it."""
    from PIL import Image

    from topovlm.checkpoint.processors import processed

    facts = context.source.checkpoint.facts
    workload = workload_of(context.config, facts)
    size = (workload.image_width, workload.image_height)
    pictures = [Image.new("RGB", size) for _ in range(workload.images)]
    family = context.source.checkpoint.family
    ids = processed(context.dense.processor, family, pictures, "")["input_ids"][0]
    return len(ids) - (ids.tolist().count(facts.image_token_id) if pictures else 0)
