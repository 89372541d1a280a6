"""A tokenizer that sees prompts whole, as the runtime does, whatever its files keep of a training run."""

from __future__ import annotations

from typing import Any

# Settings of a call that transformers keeps with a tokenizer, and takes for every call after that.
_OF_A_CALL = (
    "max_length",
    "pad_to_multiple_of",
    "padding",
    "padding_strategy",
    "return_overflowing_tokens",
    "stride",
    "truncation",
    "truncation_side",
    "truncation_strategy",
)


def see_whole_prompts(tokenizer: Any) -> None:
    """Switch off what cuts prompts or fills them up: saved truncation and padding."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        fast.no_truncation()
        fast.no_padding()
    for name in _OF_A_CALL:
        getattr(tokenizer, "init_kwargs", {}).pop(name, None)
