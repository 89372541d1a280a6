"""From a generated text and a reference answer to a score.

Every metric answers two questions: how right is the text (0..1), and could an answer be read from it at all.
A text from which no answer can be read scores 0 and counts as unparsed; nothing is ever guessed at random.

letter        the declared option letter is the same, whatever words follow: see `letters`
exact         equal after lower-casing, dropping punctuation and repeated spaces; accents and vowel signs
              count, however they are encoded (NFC)
number        the only number in the text (or the one after the last "=" or "is") equals the answer. Digits
              of any script, commas between thousands, "7%" is 0.07, "1.5e3", words up to twenty; "1/2" is two
relaxed       numbers within 5 % of the answer, anything else as `exact`
contains-all  every part of the answer (separated by ";" or ",") occurs in the text as whole words
facts         the text states the same set of facts as the answer, in any order (fact F1 = 1)
fact-f1       how far the facts of the text are those of the answer: their F1, the one metric between 0 and 1

Sources: letter as lmms-eval scores AI2D, BLINK and MMBench (exact match ignoring case and punctuation);
relaxed is the relaxed accuracy of ChartQA (Masry et al. 2022, arXiv 2203.10244) after PlotQA (Methani et al.
2020, arXiv 1909.00997): 5 % of the reference, which a reference of zero admits exactly only.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from topovlm.errors import InputError, explain
from topovlm.evaluation.letters import parse_letter
from topovlm.evaluation.task import UNPARSED, Scored
from topovlm.samples import Sample

RELAXED_TOLERANCE = 0.05

_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?:[eE][-+]?\d{1,3})?\s*%?(?!\w)"
)
_PUNCTUATION = re.compile(r"(?<!\d)\.|\.(?!\d)|(?<!\d)-(?!\d)|(?<=\w)-|[^\w\s.\-%]")
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
    "twenty",
)
_NUMBER_WORDS = {word: float(value) for value, word in enumerate(_WORDS)}
_FACT_BREAK = re.compile(r"[.,;\n]+|\band\b")
_FILLER = re.compile(r"\b(?:a|an|the|there|is|are|at|in|on)\b")


def normalise(text: str) -> str:
    """Lower case, punctuation to spaces (signs and decimal points of numbers stay), single spaces, NFC.

    Marks that combine with a letter are a part of it (Hindi vowel signs, Thai tones, accents); characters
    that only steer the layout (joiners, soft hyphens, direction marks) are left out.
    """
    letters: list[str] = []
    for one in unicodedata.normalize("NFC", text.lower().replace("−", "-")):
        if _is_mark(one) and not (letters and (letters[-1].isalnum() or _is_mark(letters[-1]))):
            continue  # of a sign that is no letter: a keycap, an emoji
        if not _is_layout(one):
            letters.append(one)
    kept = _PUNCTUATION.sub(lambda found: found[0] if _is_mark(found[0]) else " ", "".join(letters))
    return unicodedata.normalize("NFC", " ".join(kept.split()))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _is_layout(character: str) -> bool:
    """Characters of no width and no sound; variation selectors choose a picture of the one before."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _to_number(token: str) -> float:
    token = token.strip().replace("−", "-").replace(",", "")
    return float(token.rstrip("% ")) / 100 if token.endswith("%") else float(token)


def parse_number(text: str) -> float | None:
    """The one number a text states (digits or zero..twenty in words; 7% is 0.07), or None when unclear."""
    found = _numbers(text)
    if len(found) > 1:
        found = _numbers(re.split(r"=|\bis\b", text, flags=re.I)[-1])
    return found[0] if len(found) == 1 and math.isfinite(found[0]) else None


def _numbers(text: str) -> list[float]:
    digits = [_to_number(match[0]) for match in _NUMBER.finditer(text)]
    return digits or [_NUMBER_WORDS[word] for word in normalise(text).split() if word in _NUMBER_WORDS]


def facts(text: str) -> Counter[str]:
    """The multiset of facts of a description: its clauses (between commas, full stops, "and"), normalised.

    Articles and "there is", "at", "in", "on" carry no fact: "A red circle at the left, and a dot." states
    "red circle left" and "dot". Two equal clauses are two facts: the second thing exists too.
    """
    clauses = (_FILLER.sub(" ", normalise(clause)) for clause in _FACT_BREAK.split(text.lower()))
    return Counter(" ".join(clause.split()) for clause in clauses if clause.strip())


def fact_f1(text: str, answer: str) -> float:
    """Harmonic mean of the share of stated facts that are true and of true facts that are stated."""
    stated, true = facts(text), facts(answer)
    total = stated.total() + true.total()
    return 2 * (stated & true).total() / total if total else 0.0


def _scored(score: float, parsed: bool) -> Scored:
    return Scored(float(score)) if parsed else UNPARSED


def _letter(text: str, answer: str) -> Scored:
    letter = parse_letter(text)
    return _scored(letter == parse_letter(answer), letter is not None)


def _exact(text: str, answer: str) -> Scored:
    said = normalise(text)
    return _scored(said == normalise(answer), bool(said))


def _number(text: str, answer: str) -> Scored:
    said, true = parse_number(text), parse_number(answer)
    if said is None:
        return UNPARSED
    return Scored(float(true is not None and math.isclose(said, true, rel_tol=1e-9)))


def _is_number(answer: str) -> bool:
    return _NUMBER.fullmatch(answer.strip()) is not None


def _relaxed(text: str, answer: str) -> Scored:
    true = parse_number(answer) if _is_number(answer) else None
    if true is None:
        return _exact(text, answer)
    said = parse_number(text)
    if said is None:
        return UNPARSED
    return Scored(float(abs(said - true) <= RELAXED_TOLERANCE * abs(true) * (1 + 1e-12)))


def _contains_all(text: str, answer: str) -> Scored:
    said = f" {normalise(text)} "
    parts = [normalise(part) for part in re.split(r"[;,]", answer)]
    return _scored(all(f" {part} " in said for part in parts if part), bool(said.strip()))


def _facts(text: str, answer: str) -> Scored:
    return _scored(fact_f1(text, answer) == 1.0, bool(facts(text)))


def _fact_f1(text: str, answer: str) -> Scored:
    return _scored(fact_f1(text, answer), bool(facts(text)))


METRICS: dict[str, Callable[[str, str], Scored]] = {
    "letter": _letter,
    "exact": _exact,
    "number": _number,
    "relaxed": _relaxed,
    "contains-all": _contains_all,
    "facts": _facts,
    "fact-f1": _fact_f1,
}


def _has_words(answer: str) -> bool:
    return bool(normalise(answer))


def _has_words_or_number(answer: str) -> bool:
    return parse_number(answer) is not None if _is_number(answer) else _has_words(answer)


def _has_readable_parts(answer: str) -> bool:
    stated = [part for part in re.split(r"[;,]", answer) if part.strip()]
    return bool(stated) and all(map(normalise, stated))


# What a reference must be, for each metric: (whether it is, in words).
_REFERENCES: dict[str, tuple[Callable[[str], bool], str]] = {
    "letter": (lambda answer: parse_letter(answer) is not None, "names no option letter from A to Z"),
    "exact": (_has_words, "holds nothing but punctuation, which is not compared"),
    "number": (lambda answer: parse_number(answer) is not None, "is not one number"),
    "relaxed": (_has_words_or_number, "is neither a number nor words that are compared"),
    "contains-all": (_has_readable_parts, "has a part with nothing but punctuation, which is not compared"),
    "facts": (lambda answer: bool(facts(answer)), "states no fact"),
    "fact-f1": (lambda answer: bool(facts(answer)), "states no fact"),
}


def check_reference(metric: str, answer: str | None) -> None:
    """Raises `InputError`: an unknown metric, or a reference (None: there is none) that it cannot read.

    Nobody could meet it: dense and slim model would both be wrong, and a loss look smaller than it is.
    """
    if metric not in METRICS:
        raise InputError(explain("metric", metric, "is not known", f"Known: {', '.join(METRICS)}"))
    readable, rule = _REFERENCES[metric]
    if answer is not None and not readable(answer):
        remedy = f"Correct it, or choose another metric than {metric}"
        raise InputError(explain("answer", answer, f"{rule}, so no answer could be right", remedy))


def score_answer(metric: str, text: str, answer: str) -> Scored:
    """The score of a text. Raises `InputError` as `check_reference`."""
    check_reference(metric, answer)
    return METRICS[metric](text, answer)


def score_sample(sample: Sample, text: str) -> Scored:
    """The score of a text by the sample's own metric. Raises `InputError` without an answer."""
    if sample.answer is None:
        raise InputError(explain("answer", sample.id, "the sample has no answer to compare with"))
    return score_answer(sample.metric, text, sample.answer)
