"""Protocol `lmms-eval-0.7.3`: text -> answer as that release reads it, held to tests/tasks/golden.

Where it draws a letter at random nothing is read here: such an answer is wrong. MathVista's rule stands in
for a GPT model. Both are among a record's `differences`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping

from topovlm.tasks.public.items import Item
from topovlm.tasks.public.mathvista import mathvista_rule
from topovlm.tasks.public.open_answers import mmmu_open, relaxed
from topovlm.tasks.public.reading import UNREAD, Reading, chosen

_ENDS = (",", ".", "!", "?", ";", ":", "'")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def whole_letter(item: Item, text: str) -> Reading:
    """The text is the letter, or begins with it and a full stop; case and ASCII punctuation are dropped."""
    start = re.match(r"\s*([A-Z])\.", text)
    said = (start[1] if start else text).lower().translate(_NO_PUNCTUATION)
    letter = said.upper() if len(said) == 1 and said in string.ascii_lowercase else None
    return chosen(letter, item.answer)


def _stripped(text: str, ends: tuple[str, ...] = _ENDS) -> str:
    """Without signs at the ends, one kind after the other, and with a space on both sides."""
    for sign in ends:
        text = text.strip(sign)
    return f" {text} "


def _text_named(said: str, options: Mapping[str, str]) -> list[str]:
    """Letters of options whose text occurs, in an answer of more than five words."""
    if len(said.split()) <= 5:
        return []
    return [letter for letter, text in options.items() if text.lower() in said.lower()]


def _last_named(options: Mapping[str, str], answer: str, text: str) -> Reading:
    """`(A)`, else `A `, else `A.`, else an option's text; of several the last."""
    said = _stripped(text)
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [letter for letter in options if form.format(letter) in said]
        if found:
            return chosen(max(found, key=lambda c: said.rfind(place.format(c))), answer)
    found = _text_named(said, options)
    if not found:
        return UNREAD
    return chosen(max(found, key=lambda c: said.lower().rfind(options[c].lower())), answer)


def nextqa(item: Item, text: str) -> Reading:
    return _last_named(_trimmed(item), item.answer, text)


def _trimmed(item: Item) -> dict[str, str]:
    return {letter: option.strip() for letter, option in item.by_letter.items()}


def mmmu(item: Item, text: str) -> Reading:
    """Multiple choice as above; an open answer by what it says after "is", "so", "answer" and the like."""
    if item.fields.get("question_type") == "multiple-choice":
        return _last_named(item.by_letter, item.answer, text)
    return mmmu_open(item.answer, text)


def egoschema(item: Item, text: str) -> Reading:
    """All of `(A)`, `A ` and `A.` that occur, and of these the first; else an option's text."""
    said = _stripped(text)
    options = _trimmed(item)
    found = [f.format(c) for f in ("({})", "{} ", "{}.") for c in options if f.format(c) in said]
    if found:
        first = min(found, key=said.rfind) if len(found) > 1 else found[0]
        return chosen(first.strip("(). "), item.answer)
    named = _text_named(said, options)
    if not named:
        return UNREAD
    return chosen(min(named, key=lambda c: said.lower().rfind(options[c].lower())), item.answer)


def blink(item: Item, text: str) -> Reading:
    """A first line of a letter; else the last "answer is X"; else the last `(X)`; else a letter in front."""
    text = text.strip()
    letters = "".join(item.letters)
    first = text.split("\n", 1)[0].strip()
    alone = re.match(rf"\(?([{letters}])\)?[.\s:,)]*$", first, re.I) if len(first) <= 4 else None
    said = re.findall(rf"answers?(?:\s+is)?\s*[:\-]?\s*\(?([{letters}])\)?(?![A-Za-z])", text, re.I)
    bracketed = re.findall(rf"\(([{letters}])\)", text)
    front = re.match(rf"[(\s]*([{letters}])", text, re.I)
    if alone:
        return chosen(alone[1].upper(), item.answer)
    if said or bracketed:
        return chosen((said or bracketed)[-1].upper(), item.answer)
    return chosen(front[1].upper() if front else None, item.answer)


_MVBENCH_SIGNS = tuple(';/[]"{}()=+\\_-><@`,?!')


def mvbench(item: Item, text: str) -> Reading:
    """`X. text`; else, without punctuation and in lower case, the first of a-e that stands alone."""
    text = text.strip()
    start = re.match(r"([A-E])\.\s*(.+)$", text, re.I)
    if start:
        return chosen(start[1].upper(), item.answer)
    said = text.replace("\n", " ").replace("\t", " ").strip()
    between_digits = re.search(r"\d,\d", said) is not None
    plain = said
    for sign in _MVBENCH_SIGNS:
        joined = f"{sign} " in said or f" {sign}" in said or between_digits
        plain = plain.replace(sign, "" if joined else " ")
    # Thirty-two full stops at most: there a flag stands in the place of a count.
    plain = re.sub(r"(?!<=\d)\.(?!\d)", "", plain, count=int(re.UNICODE))
    for sign in "'\")(":
        plain = plain.strip(sign)
    alone = re.search(r"\b([A-E])\b", plain.strip().lower(), re.I)
    return chosen(alone[1].upper() if alone else None, item.answer)


def mmbench(item: Item, text: str) -> Reading:
    """One letter that stands alone, signs around it or not; else one option's text; else as Video-MME.

    Cells of absent options count: one that holds the text "nan" is looked for, as there.
    """
    text = text.strip()
    cells = {letter: item.fields.get(letter) for letter in "ABCD"}
    options = {letter: str(cell) for letter, cell in cells.items() if cell is not None}
    return chosen(
        _sole_letter(text.split()) or _sole_text(text, options) or _shared(options, text), item.answer
    )


_AROUND = (
    *(("", "."), ("", ","), ("", ":"), ("", ")"), ("", ").")),
    *(("(", ")"), ("(", ")."), (":", ""), (":", ","), (":", "."), (":", ")"), (":", ").")),
)


def _sole_letter(words: list[str]) -> str | None:
    letters = "ABCDE"
    bare = [letter for letter in letters if letter in words]
    # In a longer sentence "A" may be an article: such a letter is left for what follows.
    if len(bare) == 1 and not ("A" in words and len(words) > 3):
        return bare[0]
    for before, after in _AROUND:
        found = [letter for letter in letters if f"{before}{letter}{after}" in words]
        if len(found) == 1:
            return found[0]
    return None


def _sole_text(text: str, options: Mapping[str, str]) -> str | None:
    found = [letter for letter, option in options.items() if option.lower() in text.lower()]
    return found[0] if len(found) == 1 else None


_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "i choose", "i select"),
    *(
        "i pick",
        "my answer is",
        "my choice is",
        "옵션",
        "정답은",
        "답은",
        "답:",
        "答案是",
        "答案为",
        "选",
        "答えは",
    ),
)
_SHARED = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))


def videomme(item: Item, text: str) -> Reading:
    return chosen(_shared("ABCD", text), item.answer)


def _shared(letters: Iterable[str], text: str) -> str | None:
    """The letter in the form that says most: at the start, at the end, after "the answer is" ..."""
    letters = tuple(letters)
    said = _stripped(text.strip(), (*_ENDS, '"'))
    bare = said.strip()
    found: list[tuple[int, int, str]] = []  # (what the form is worth, place, letter)
    for form, worth in _SHARED:
        for letter in letters:
            place = said.rfind(form.format(letter))
            if place >= 0:
                found.append((worth, place, letter))
    for phrase in _PHRASES:
        begin = said.lower().find(phrase)
        if begin >= 0:
            places = ((said.find(letter, begin + len(phrase)), letter) for letter in letters)
            found += [(7, place, letter) for place, letter in places if place >= 0]
    for letter in letters:
        if bare.startswith(letter) and (len(bare) == 1 or not bare[1].isalpha()):
            found.append((10, 0, letter))
        if bare.endswith(letter) and (len(bare) == 1 or not bare[-2].isalpha()):
            found.append((9, len(said) - 1, letter))
    if not found:
        found = [(0, said.rfind(letter), letter) for letter in letters if letter in said]
    return max(found, key=lambda one: one[:2])[2] if found else None


def mathvista(item: Item, text: str) -> Reading:
    return mathvista_rule(item, text.strip())


def relaxed_answer(item: Item, text: str) -> Reading:
    return relaxed(item.answer, text)


RULES: dict[str, Callable[[Item, str], Reading]] = {
    "whole letter": whole_letter,
    "mathvista": mathvista,
    "relaxed": relaxed_answer,
    "mmmu": mmmu,
    "nextqa": nextqa,
    "blink": blink,
    "mmbench": mmbench,
    "egoschema": egoschema,
    "mvbench": mvbench,
    "videomme": videomme,
}
