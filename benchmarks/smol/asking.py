"""How this model is asked: its chat template, its image token, and a question as tokens.

A conversation without a picture reads as the published decoder was taught to read it, its system sentence
included; with a picture the sentence is left out. The image token is added behind the published vocabulary.
"""

from __future__ import annotations

from typing import Any

IMAGE = "<image>"
START, END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% set seen = namespace(picture=false) %}"
    "{% for message in messages %}{% if message['content'] is not string %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{% set seen.picture = true %}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' and not seen.picture %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BEFORE = f"{START}user\n"  # the picture's tokens follow, then the question
BEHIND = f"{END}\n{START}assistant\n"  # what follows a question; an answer ends with END


class Speller:
    """Questions and answers as token numbers of the published tokenizer; remembers what it was asked."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.before, self.behind = self(BEFORE), self(BEHIND)
        (self.end,) = self(END)

    def __call__(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[text] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._known[text]

    def question(self, text: str) -> list[int]:
        """Up to where the answer starts."""
        return [*self(text), *self.behind]

    def answer(self, text: str) -> list[int]:
        return [*self(text), self.end]
