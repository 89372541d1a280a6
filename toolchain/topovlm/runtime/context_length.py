"""The most tokens that a model's positions cover, prompt and answer together: one rule for every path."""

from __future__ import annotations

from topovlm.errors import InputError, explain

_MOST_SHOWN = 60  # characters of the prompt


def refuse_too_long(words: str, tokens: int, new_tokens: int, longest: int | None) -> None:
    """Raises `InputError` where a prompt of so many tokens, and its answer, pass the context `longest`.

    None: the configuration does not tell.
    """
    if longest is None or tokens + new_tokens <= longest:
        return
    shown = words if len(words) <= _MOST_SHOWN else f"{words[:_MOST_SHOWN]}..."
    answer = f" and {new_tokens} of the answer" if new_tokens else ""
    rule = f"its {tokens} tokens{answer} pass the model's context of {longest}"
    raise InputError(
        explain("prompt", shown, rule, "Ask with fewer words, fewer pictures or a shorter answer")
    )
