"""The option that a text means where it declares no letter: the only one in brackets, or in words."""

from __future__ import annotations

import re

from topovlm.evaluation.metrics import normalise
from topovlm.tasks.public.items import Item

_DENIES = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|except|instead|rather|unlike|either|nothing|none)\b|n['’]t\b",
    re.I,
)
# Words that lead to an answer and are no part of it.
LEAD = re.compile(
    r"^(?:(?:so|thus|therefore|hence|final|the|a|an|my|correct|right|best|answer|it|this|that|there|is|are|was|"
    r"would be|must be|they|equals?)\s+)+",
)


def bracketed(item: Item, text: str) -> str | None:
    """The only letter of the item's that stands in brackets, but for those that their clauses deny."""
    found = set()
    for match in re.finditer(r"\(([A-Z])\)", text):
        clause = re.split(r"[.!?;:\n]", text[: match.start()])[-1]
        if match[1] in item.letters and not _DENIES.search(clause):
            found.add(match[1])
    return found.pop() if len(found) == 1 else None


def _plain(option: str) -> str:
    """An option's words; some datasets store its letter in front."""
    return normalise(re.sub(r"^\(?[A-Z][.)]\s+", "", option.strip()))


def named(item: Item, text: str) -> str | None:
    """The letter of the only option whose words occur in the text, as a whole or in an affirmation."""
    said = normalise(text)
    options = {letter: _plain(option) for letter, option in item.by_letter.items()}
    whole = [
        letter for letter, option in options.items() if option and LEAD.sub("", said) == LEAD.sub("", option)
    ]
    if whole:
        return whole[0] if len(whole) == 1 else None
    texts = set(options.values())
    if any(match[0].lower() not in texts for match in _DENIES.finditer(text)):
        return None
    rest = f" {said} "
    found = []
    for letter, option in sorted(options.items(), key=lambda pair: -len(pair[1])):
        if len(option) > 1 or option.isdigit():
            if f" {option} " in rest:
                found.append(letter)
            rest = rest.replace(f" {option} ", " | ")  # a shorter option inside a longer one was not said
    return found[0] if len(found) == 1 and list(options.values()).count(options[found[0]]) == 1 else None
