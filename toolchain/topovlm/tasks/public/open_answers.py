"""Answers without options, as lmms-eval 0.7.3 compares them: ChartQA's relaxed rule, MMMU's open ones."""

from __future__ import annotations

import re

from topovlm.tasks.public.reading import UNREAD, Reading

RELAXED_TOLERANCE = 0.05  # Masry et al. 2022, arXiv 2203.10244, section 5.1


def relaxed(answer: str, text: str) -> Reading:
    """Within 5 % of a number that is not zero; otherwise equal but for case. Nothing else is tidied."""
    said, true = _share_or_number(text), _share_or_number(answer)
    if said is not None and true:
        right = abs(said - true) / abs(true) <= RELAXED_TOLERANCE
    else:
        right = text.lower() == answer.lower()
    return Reading(right, text) if text.strip() else UNREAD


def _share_or_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


# After these words an answer stands; "=" counts in the last line alone.
_BEFORE_AN_ANSWER = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def mmmu_open(answer: str, text: str) -> Reading:
    """Right if a part that may be the answer contains the reference, or is the same number to two places."""
    parts = _parts(text)
    candidates = [
        *parts,
        *(number for part in parts for pattern in _NUMBERS for number in pattern.findall(part)),
    ]
    said = [one for candidate in candidates for one in _comparable(candidate)]
    true = _comparable(answer)
    right = any(_matches(one, true) for one in said)
    return Reading(right, parts[0]) if text.strip() else UNREAD


def _matches(said: str | float, true: list[str | float]) -> bool:
    if isinstance(said, str):
        return any(isinstance(one, str) and one in said for one in true)
    return said in true


def _parts(text: str) -> list[str]:
    """The shortest ends of its lines behind one of the words above; else the whole of it."""
    said = text.strip().strip(".").lower()
    lines = said.split("\n")  # there at capitals after a full stop, too, of which none is left
    found = []
    for number, line in enumerate(lines):
        words = (*_BEFORE_AN_ANSWER, "=") if number == len(lines) - 1 else _BEFORE_AN_ANSWER
        ends = [line.split(word)[-1].strip() for word in words if word in line]
        shortest = ""
        for end in ends:  # an empty one is given way to by whatever comes next
            if not shortest or len(end) < len(shortest):
                shortest = end
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            found.append(shortest)
    return found or [said]


def _comparable(text: str) -> list[str | float]:
    """A number rounded to two places; else lower case, a single character with a space on either side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]
