"""The text beside the pictures, as lmms-eval 0.7.3 words it for models without a wording of their own."""

from __future__ import annotations

from collections.abc import Callable

from topovlm.tasks.public.items import Item, number_of

_BY_LETTER = "Answer with the option's letter from the given choices directly."
_BY_PHRASE = "Answer the question using a single word or phrase."


def _lines(item: Item, mark: str = "{}. {}") -> str:
    return "\n".join(mark.format(letter, text) for letter, text in item.by_letter.items())


def _with_lines(item: Item) -> str:
    return f"{item.question}\n{_lines(item)}\n{_BY_LETTER}"


def _word(item: Item) -> str:
    return f"{item.question}\nAnswer the question with a single word."


def _lines_or_phrase(item: Item) -> str:
    if item.fields.get("question_type") == "multiple-choice":
        return f"{item.question}\n{_lines(item)}\n\n{_BY_LETTER}"
    return f"{item.question}\n\n{_BY_PHRASE}"


def _note(item: Item) -> str:
    note = "Note: You only need to respond with {} without providing any additional information."
    return f"{note.format(', '.join(item.letters))}\n{item.question}"


def _several(item: Item) -> str:
    hint = item.fields.get("hint")
    before = "" if hint is None or str(hint) == "nan" else f"{hint} "
    listed = f"There are several options:\n{_lines(item)}\n".rstrip("\n")
    return f"{before}{item.question} {listed}\n\n{_BY_LETTER}"


def _stored_lines(item: Item) -> str:
    """Options carry their letters in the data."""
    return "\n".join((item.question, *item.options, _BY_LETTER))


def _bracketed(item: Item) -> str:
    listed = _lines(item, "({}) {}")
    return f"Question:{item.question}\nOption:\n{listed}\nOnly give the best option.\n"


def _bare_lines(item: Item) -> str:
    """No instruction at all."""
    options = (f"{letter}. {text.strip()}" for letter, text in item.by_letter.items())
    return "\n".join((item.question.strip(), *options))


def _select(item: Item) -> str:
    ask = (
        "Select the best answer to the following multiple-choice question based on the video and the "
        "subtitles. Respond with only the letter (A, B, C, or D) of the correct option."
    )
    return "\n".join((ask, item.question, *item.options, "", _BY_LETTER))


def _format(item: Item) -> str:
    """MathVista's variant `format`: what kind of answer is wanted stands at the end."""
    unit = item.fields.get("unit")
    question = f"{item.question} (Unit: {unit})" if unit else item.question
    return "\n".join(part for part in (question, _lines(item), _wanted(item)) if part).strip()


def _wanted(item: Item) -> str:
    if item.options:
        return _BY_LETTER
    kind, places = item.fields.get("answer_type"), number_of(item.fields.get("precision"))
    if kind == "float":
        written = {1: " with one decimal place", 2: " with two decimal places"}.get(int(places or 0), "")
        return f"Answer the question using a single floating-point number{written}."
    if kind == "list":
        return "Answer the question using a Python list."
    return "Answer the question using a single integer number."


PROMPTS: dict[str, Callable[[Item], str]] = {
    "lines": _with_lines,
    "word": _word,
    "lines or phrase": _lines_or_phrase,
    "note": _note,
    "several options": _several,
    "lettered lines": _stored_lines,
    "bracketed": _bracketed,
    "bare lines": _bare_lines,
    "select the best": _select,
    "format": _format,
}
