"""Whether the workload's prompt can exist at all: asked before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.errors import InputError, explain
from topovlm.pipeline.measuring import timed_tokens

if TYPE_CHECKING:
    from topovlm.pipeline.context import Context


def check_prompt_length(context: Context) -> None:
    """Refuse text shorter than the chat template, and prompts beyond the model's context."""
    from topovlm.pipeline.planning import workload_of

    config, model = context.config, context.source.checkpoint.facts
    template = template_tokens(context, config.images)
    if config.prompt_tokens < template:
        rule = f"the chat template alone takes {template} text tokens"
        raise InputError(explain("--prompt-tokens", config.prompt_tokens, rule, f"Give at least {template}"))
    visual = model.visual_tokens(workload_of(config, model))
    longest = model.context_tokens
    new = timed_tokens(config)
    if longest is not None and visual + config.prompt_tokens + new > longest:
        rule = f"with {visual} visual and {new} new tokens it passes the model's context of {longest} tokens"
        remedy = "Give fewer tokens with --prompt-tokens, --new-tokens or --images"
        raise InputError(explain("--prompt-tokens", config.prompt_tokens, rule, remedy))


def template_tokens(context: Context, images: int) -> int:
    """Text tokens of an empty question about so many pictures, as the model's own template writes it."""
    from transformers import AutoProcessor

    folder = context.source.folder
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        rule = f"transformers cannot load its processor: {line}"
        raise InputError(explain("--model", str(folder), rule)) from error
    if getattr(processor, "chat_template", None) is None:
        rule = "has no chat template, so a prompt cannot be written the way it was trained"
        raise InputError(explain("--model", str(folder), rule, "Add chat_template.jinja"))
    content = [*[{"type": "image"}] * images, {"type": "text", "text": ""}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    words = text.replace(processor.image_token, "")
    return len(processor.tokenizer(words, add_special_tokens=False)["input_ids"])
