"""Right, wrong and unparsed answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.evaluation.metrics import (
    METRICS,
    check_reference,
    fact_f1,
    facts,
    normalise,
    parse_letter,
    parse_number,
    score_answer,
)
from topovlm.evaluation.task import UNPARSED, Scored


@pytest.mark.parametrize(
    ("text", "letter"),
    [("A", "A"), (" b. ", "B"), ("(C)", "C"), ("D: a cat", "D"), ("A) cat.", "A"), ("The answer is B.", "B"),
     ("Answer: (c)", "C"), ("Option D", "D")],
)  # fmt: skip
def test_letter_is_read_through_case_and_punctuation(text: str, letter: str) -> None:
    """An option letter is found in the forms that models write it in."""
    assert parse_letter(text) == letter


@pytest.mark.parametrize("text", ["", "A cat", "cat", "A or B", "AB", "I think so", "?"])
def test_unclear_letters_are_unparsed(text: str) -> None:
    """A text that does not clearly name one option is wrong and unparsed, never guessed."""
    assert score_answer("letter", text, "A") == UNPARSED


def test_a_wrong_letter_is_parsed() -> None:
    """Wrong and unparsed are told apart."""
    assert score_answer("letter", "(B)", "A") == Scored(0.0)
    assert score_answer("letter", "a.", "A") == Scored(1.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("-3", -3), ("−3", -3), ("3 + 4 = 7", 7), ("12%", 0.12), ("12 %", 0.12), ("1,200", 1200),
     ("three", 3), ("It is 3.5.", 3.5), (".5", 0.5), ("Seven.", 7)],
)  # fmt: skip
def test_numbers_are_read_from_text(text: str, value: float) -> None:
    """Digits, signs, separators, percentages and number words up to twenty."""
    assert parse_number(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "x7", "2 or 3", "many", "v2"])
def test_unclear_numbers_are_unparsed(text: str) -> None:
    """No number, or more than one without an equals sign, is no answer."""
    assert score_answer("number", text, "2") == UNPARSED


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [("105", "100", True), ("95.0", "100", True), ("105.1", "100", False), ("-9.6", "-10", True),
     ("9.6", "-10", False), ("0", "0", True), ("0.01", "0", False), ("12%", "0.12", True),
     ("Red", "red", True), ("blue", "red", False)],
)  # fmt: skip
def test_relaxed_accuracy_is_five_percent_of_the_reference(text: str, answer: str, right: bool) -> None:
    """ChartQA's rule: 5 % of the reference's size for numbers, equality for words."""
    assert score_answer("relaxed", text, answer) == Scored(float(right))


@given(st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-3), st.floats(-0.1, 0.1))
def test_relaxed_agrees_with_its_definition(reference: float, error: float) -> None:
    """Whatever the size, |said - true| <= 5 % of |true| decides."""
    said = round(reference * (1 + error), 6)
    true = round(reference, 6)
    slack = abs(said - true) - 0.05 * abs(true)
    if abs(slack) > 1e-9 * abs(true):
        assert score_answer("relaxed", f"{said:.6f}", f"{true:.6f}").score == (slack < 0)


def test_exact_ignores_case_and_punctuation_only() -> None:
    """Words must be equal; an empty text is unparsed."""
    assert score_answer("exact", " Top-left. ", "top left") == Scored(1.0)
    assert score_answer("exact", "left top", "top left") == Scored(0.0)
    assert score_answer("exact", "...", "top left") == UNPARSED


def test_contains_all_needs_whole_words() -> None:
    """Every part must be said, as words and not as parts of words."""
    assert score_answer("contains-all", "A red circle and a dog", "red; dog").score
    assert not score_answer("contains-all", "A redcurrant and a dog", "red; dog").score


def test_facts_are_a_multiset_in_any_order() -> None:
    """Order and filler words do not matter; how often a fact is stated does."""
    answer = "red circle top left, blue square center."
    assert score_answer(
        "facts", "A blue square at the center and a red circle at top left", answer
    ) == Scored(1.0)
    assert facts("a dot, a dot") != facts("a dot")
    assert score_answer("facts", "", answer) == UNPARSED


def test_fact_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    """Two of three stated facts are true, two of four true facts are stated."""
    precision, recall = 2 / 3, 2 / 4
    f1 = fact_f1("red dot, blue dot, green dot", "red dot, blue dot, grey dot, pink dot")
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_fact_f1_is_a_graded_metric() -> None:
    """Half right scores between 0 and 1, all right 1, nothing said is unparsed."""
    answer = "red dot, blue dot"
    assert score_answer("fact-f1", "a red dot and a green dot", answer) == Scored(0.5)
    assert score_answer("fact-f1", "blue dot, red dot", answer) == Scored(1.0)
    assert score_answer("fact-f1", "", answer) == UNPARSED


@pytest.mark.parametrize("wrong", [{"score": 1.1}, {"score": -0.1}, {"score": 0.5, "parse": "unparsed"}])
def test_a_score_is_a_score(wrong: dict[str, Any]) -> None:
    """Between 0 and 1, and 0 for what could not be parsed: a plug-in's mistake is found where it is made."""
    with pytest.raises(ValueError, match="score"):
        Scored(**wrong)


@given(st.text(max_size=60), st.sampled_from(sorted(METRICS)))
def test_no_text_breaks_a_metric_and_unparsed_is_never_right(text: str, metric: str) -> None:
    """Any generated text has a score between 0 and 1; an unparsed one scores 0."""
    scored = score_answer(metric, text, "A" if metric == "letter" else "7")
    assert 0 <= scored.score <= 1
    assert scored.parse == "parsed" or scored.score == 0


@given(st.text(max_size=40))
def test_normalise_is_idempotent(text: str) -> None:
    """Normalising twice changes nothing."""
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("said", "answer", "same"),
    [("e\u0301te\u0301", "été", True), ("été", "ete", False), ("ที่", "ที", False), ("की", "का", False),
     ("किताब", "किताब", True), ("किताब।", "किताब", True), ("Tiê\u0301ng Viê\u0323t", "tiếng việt", True),
     ("می\u200cخواهم", "میخواهم", True), ("كِتَاب", "كُتَّاب", False), ("co\u00adop", "coop", True),
     ("STRASSE", "straße", False), ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", True),
     ("3.5", "3,5", False)],
)  # fmt: skip
def test_letters_of_every_script_count(said: str, answer: str, same: bool) -> None:
    """However they are encoded: accents, vowel signs and tones are no punctuation."""
    assert score_answer("exact", said, answer).score == float(same)


@pytest.mark.parametrize(
    ("metric", "answer"),
    [("letter", "2"), ("letter", "red"), ("letter", "A, C"), ("letter", "А"), ("letter", ""),
     ("letter", "AB"),
     ("number", "three or four"), ("number", "1/2"), ("number", "inf"), ("number", "nan"), ("number", ""),
     ("number", "1,23"), ("number", "1.234,5"), ("number", "½"), ("number", "9" * 400), ("number", "2-3"),
     ("number", "2026-01-02"), ("number", "many"), ("exact", "+"), ("exact", ""), ("exact", "..."),
     ("exact", "❤️"), ("relaxed", "?"), ("relaxed", "9" * 400), ("contains-all", ""),
     ("contains-all", ";"), ("contains-all", "cat; +"), ("facts", "there is a"), ("facts", ""),
     ("fact-f1", "."), ("fact-f1", "and")],
)  # fmt: skip
def test_a_reference_that_nobody_could_meet_is_refused(metric: str, answer: str) -> None:
    """It would count against dense and slim model alike, and make a loss look smaller than it is."""
    with pytest.raises(InputError, match="no answer could be right") as raised:
        check_reference(metric, answer)
    assert (raised.value.field, raised.value.value) == ("answer", answer)


@pytest.mark.parametrize(
    ("metric", "answer"),
    [("letter", "a"), ("letter", "(B)"), ("letter", "C."), ("letter", "D: a cat"), ("letter", "Ａ"),
     ("number", "7"), ("number", "seven"), ("number", "-1,234.5"), ("number", "7 %"), ("number", "1.5e3"),
     ("number", "٣"), ("number", "１２"), ("number", "3 cats"), ("exact", "C++"), ("exact", "-3"),
     ("exact", "नहीं"), ("relaxed", "12%"), ("relaxed", "red"), ("contains-all", "red; dog;"),
     ("facts", "a red dot"), ("fact-f1", "red dot and blue dot")],
)  # fmt: skip
def test_a_reference_meets_itself(metric: str, answer: str) -> None:
    """What is accepted as a reference scores 1 when a model says just that."""
    check_reference(metric, answer)
    assert score_answer(metric, answer, answer) == Scored(1.0)


def test_unknown_metric_names_the_known_ones() -> None:
    """A typo in a data set says what would have been right."""
    with pytest.raises(InputError, match=r"metric = 'leter'.*letter"):
        score_answer("leter", "A", "A")
