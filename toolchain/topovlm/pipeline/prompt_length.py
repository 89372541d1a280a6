"""Whether the workload's prompt can exist at all: asked before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.errors import InputError, explain
from topovlm.pipeline.measuring import timed_tokens
from topovlm.pipeline.question import workload_of

if TYPE_CHECKING:
    from topovlm.pipeline.context import Context


def check_prompt_length(context: Context) -> None:
    """Refuse text shorter than the chat template, and prompts beyond the model's context."""
    config, model = context.config, context.source.checkpoint.facts
    workload = workload_of(config, model)
    template = template_tokens(context, workload.images)
    if config.prompt_tokens < template:
        rule = f"the chat template alone takes {template} text tokens"
        raise InputError(explain("--prompt-tokens", config.prompt_tokens, rule, f"Give at least {template}"))
    visual = model.visual_tokens(workload)
    longest, new = model.context_tokens, timed_tokens(config, context.constants)
    if longest is not None and visual + config.prompt_tokens + new > longest:
        rule = f"with {visual} visual and {new} new tokens it passes the model's context of {longest} tokens"
        remedy = "Give fewer tokens with --prompt-tokens, --new-tokens or --images"
        raise InputError(explain("--prompt-tokens", config.prompt_tokens, rule, remedy))


def template_tokens(context: Context, images: int) -> int:
    """Text tokens of an empty question about so many pictures, as the model's own template writes it."""
    from topovlm.checkpoint.processors import tokenizer_of

    processor, facts = context.dense.processor, context.source.checkpoint.facts
    tokenizer = tokenizer_of(processor)
    if facts.family is not None and facts.family.prompt == "plain":
        return len(tokenizer("\n")["input_ids"])  # the beginning and the end of the words
    marks = [{"type": "image"}] * images
    content = [*marks, {"type": "text", "text": ""}] if facts.shape.vision else ""
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    words = text.replace(getattr(processor, "image_token", None) or "\0", "")
    return len(tokenizer(words, add_special_tokens=False)["input_ids"])
