"""Protocol `strict`: one reader for all ten, which reads what a wordy model says and never guesses.

Options: the letter that the text declares (`evaluation.letters`), among the item's own; else the only one in
brackets; else the one option that the text names in words, where it denies nothing. Open answers: the one
number that is stated, or the words without what leads to them.
"""

from __future__ import annotations

import math

from topovlm.errors import InputError
from topovlm.evaluation.letters import parse_letter
from topovlm.evaluation.metrics import normalise, parse_number, score_answer
from topovlm.tasks.public.items import Item, listed, number_of
from topovlm.tasks.public.mathvista import mathvista_rule
from topovlm.tasks.public.named import LEAD, bracketed, named
from topovlm.tasks.public.reading import UNREAD, Reading, chosen


def strict(item: Item, text: str) -> Reading:
    """What the text says of the item's answer."""
    if item.options:
        letter = parse_letter(text) or bracketed(item, text) or named(item, text)
        return chosen(letter if letter in item.letters else None, item.answer)
    return _open(item, text)


def _open(item: Item, text: str) -> Reading:
    """Against each of the references: some rows hold a list of them, written as text."""
    if item.fields.get("answer_type") == "list":
        return _list(item, text)
    true = item.answer.strip()
    if true.startswith("[") and true.endswith("]"):
        try:
            references = [str(one) for one in listed(true, "answer")]
        except ValueError:
            references = [true]
    else:
        references = [true]
    readings = [_against(item, reference, text) for reference in references]
    return max(readings, key=lambda reading: (reading.right, reading.read is not None))


def _against(item: Item, true: str, text: str) -> Reading:
    if item.fields.get("answer_type") is None and item.fields.get("question_type") is None:
        return _relaxed(true, text)
    number = number_of(true.replace(",", ""))
    if number is None:
        said = LEAD.sub("", normalise(text))
        return Reading(said == LEAD.sub("", normalise(true)), said) if said else UNREAD
    value = parse_number(text)
    if value is None:
        return UNREAD
    # As many places as the reference has.
    places = len(true.partition(".")[2]) if item.fields.get("answer_type") else 2
    right = math.isclose(round(value, places), round(number, places), rel_tol=1e-9, abs_tol=1e-12)
    return Reading(right, str(value))


def _relaxed(true: str, text: str) -> Reading:
    """ChartQA. A reference of signs alone is met by the same signs."""
    try:
        scored = score_answer("relaxed", text, true)
    except InputError:
        return Reading(text.strip() == true, text.strip()) if text.strip() else UNREAD
    return UNREAD if scored.parse == "unparsed" else Reading(scored.score == 1, text.strip())


def _list(item: Item, text: str) -> Reading:
    return mathvista_rule(item, text.strip())
