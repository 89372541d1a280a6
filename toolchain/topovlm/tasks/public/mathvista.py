"""MathVista without a judge model: the rule that stands in for the GPT model of its authors and of lmms-eval.

A choice, word for word, by its letter, or the only one that is named; a number, alone or the last that is
said, rounded as the question wants it; a list as such. Nothing is matched by resemblance. How often that
agrees with GPT-4's reading: `python -m benchmarks.tasks judged`.
"""

from __future__ import annotations

import re

from topovlm.evaluation.letters import parse_letter
from topovlm.tasks.public.items import Item, listed, number_of
from topovlm.tasks.public.named import bracketed, named
from topovlm.tasks.public.reading import UNREAD, Reading

_NUMBER = re.compile(
    r"(?:(?<![\w.])[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?<=\d)(?:[eE][-+]?\d+)?"
)


def mathvista_rule(item: Item, said: str) -> Reading:
    """Of a text without white space around it."""
    if item.options:
        return _choice(item, said)
    if item.fields.get("answer_type") == "list":
        return _list(item, said)
    value = number_of(said)
    if value is None:
        numbers = [match[0] for match in _NUMBER.finditer(said) if match[0]]
        value = number_of(numbers[-1].replace(",", "").replace("−", "-")) if numbers else None
    if value is None:
        return UNREAD
    places = int(number_of(item.fields.get("precision")) or 0)
    shown = str(round(value, places)) if item.fields.get("answer_type") == "float" else str(int(value))
    return Reading(shown == item.answer.strip(), shown)


def _choice(item: Item, said: str) -> Reading:
    """A text that is a choice may still be a letter, which goes first: choices may be letters themselves."""
    letter = said if said in item.letters else None
    if letter is None and said not in item.options:
        letter = parse_letter(said) or bracketed(item, said) or named(item, said)
    read = said if letter is None and said in item.options else item.by_letter.get(letter or "")
    return UNREAD if read is None else Reading(read == item.right_text, read)


def _list(item: Item, said: str) -> Reading:
    found = re.findall(r"\[[^\[\]]*\]", said)
    try:
        read = list(listed(found[-1] if found else None, "answer"))
        true = list(listed(item.answer, "answer"))
    except ValueError:  # InputError is one
        return UNREAD
    return Reading(read == true, str(read)) if read else UNREAD
