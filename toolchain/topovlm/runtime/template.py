"""A conversation as the text that the model was trained on: the checkpoint's own chat template, rendered.

What comes out is what transformers' `apply_chat_template` writes. Templates are programs that came with a
checkpoint, so they run in a sandbox with bounds (`topovlm.runtime.sandbox`). No torch, no transformers; Jinja
is imported when the first template is rendered.

PaliGemma has no chat template: its family's record says how its prompts are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from topovlm.errors import InputError, explain

if TYPE_CHECKING:
    from jinja2 import Template

# Names under which a template finds special tokens; a tokenizer may add its own (`image_token`).
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The empty expression at the end keeps what the template begins with: behind a statement a newline is cut.
_STRINGS = (
    "{%- for message in messages %}{%- set held = namespace(text='', pictures=0) %}"
    "{%- if message['content'] is string %}{%- set held.text = message['content'] %}{%- else %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'text' %}"
    "{%- set held.text = held.text + part['text'] %}{%- else %}"
    "{%- set held.text = held.text + MARK + '\\n' %}{%- set held.pictures = held.pictures + 1 %}{%- endif %}"
    "{%- endfor %}{%- if not held.pictures %}{%- set held.text = '\\n' + held.text %}{%- endif %}{%- endif %}"
    "{%- set all.turns = all.turns + [{'role': message['role'], 'content': held.text}] %}{%- endfor %}"
    "{%- set messages = all.turns %}{{- '' }}"
)
MAX_TEMPLATE = 1_000_000  # characters
_MAX_MESSAGE = 300  # characters of an error that a template worded itself


def messages(pictures: int, words: str, *, videos: int = 0, parts: bool = True) -> list[dict[str, Any]]:
    """One turn of the user: the pictures, the videos, then the words.

    `parts=False` gives the words alone as a string, which templates of text-only models expect.
    """
    if not parts:
        return [{"role": "user", "content": words}]
    kinds = ["image"] * pictures + ["video"] * videos
    content = [*({"type": kind} for kind in kinds), {"type": "text", "text": words}]
    return [{"role": "user", "content": content}]


def render(
    template: str,
    content: Sequence[Mapping[str, Any]],
    *,
    tokens: Mapping[str, object],
    add_generation_prompt: bool = True,
) -> str:
    """The text of a conversation; `content` holds messages with `role` and `content` (a string or parts).

    `tokens` are the special tokens by name, see `special_tokens`. A date is that of the call. Raises
    `InputError` for a template that cannot be read, that refuses the conversation, or that wants more time or
    memory than a prompt takes.
    """
    from jinja2.exceptions import SecurityError

    from topovlm.runtime.sandbox import BUDGET, Budget

    given = {
        **{name: _plain(value) for name, value in tokens.items()},
        "messages": [_plain(message) for message in map(_without_none, content)],
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }
    held = BUDGET.set(Budget())
    try:
        return _compiled(template).render(given)
    except SecurityError as error:
        raise _refused(f"is not run: {error}") from None
    except MemoryError:
        raise _refused("takes more memory than there is") from None
    except Exception as error:  # a template is a program: anything can come out of it
        raise _refused(f"cannot be rendered: {_worded(error)}") from None
    finally:
        BUDGET.reset(held)


def with_pictures(template: str, *, system: str, mark: str) -> str:
    """A tokenizer's chat template, which takes strings, as one that takes parts: `mark` and a newline for
    each picture, a newline alone where a turn has none. `system`: what stands before the first turn."""
    first = f'[{{"role": "system", "content": {json.dumps(system)}}}]' if system else "[]"
    return (
        f"{{%- set all = namespace(turns={first}) %}}{_STRINGS.replace('MARK', json.dumps(mark))}{template}"
    )


def special_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that a template may name, from `tokenizer_config.json`; absent ones are left out."""
    found = {name: tokenizer_config.get(name) for name in _NAMED}
    for field in ("model_specific_special_tokens", "extra_special_tokens"):
        own = tokenizer_config.get(field)
        found |= own if isinstance(own, Mapping) else {}
    found |= {
        name: value
        for name, value in tokenizer_config.items()
        if name.endswith("_token") and isinstance(value, (str, Mapping))
    }
    texts = {name: _token_text(value) for name, value in found.items()}
    return {name: text for name, text in texts.items() if text is not None}


def adds_special_tokens(text: str, bos_token: str | None) -> bool:
    """Whether the tokenizer adds its special tokens to a rendered text: not when it starts with bos."""
    return not (bos_token is not None and text.startswith(bos_token))


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    from topovlm.runtime.sandbox import Sandbox

    if len(template) > MAX_TEMPLATE:
        raise ValueError(f"it has more than {MAX_TEMPLATE:,} characters")
    return Sandbox().from_string(template)


def _refused(rule: str) -> InputError:
    return InputError(explain("chat_template", "...", rule, "Look at the checkpoint's chat template"))


def _worded(error: Exception) -> str:
    """An error of a template in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    line = getattr(error, "lineno", None)
    short = text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + " ..."
    return f"{short} (line {line})" if line else short


def _token_text(value: Any) -> str | None:
    """A token is stored as its text, or as a mapping that holds it."""
    held = value.get("content") if isinstance(value, Mapping) else value
    return held if isinstance(held, str) else None


def _without_none(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}


def _plain(value: Any) -> Any:
    """The same out of JSON's types alone: anything else has methods that a template could call."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"
