"""Our own reader and MathVista's rule: what wordy models say is read, what they do not say is not guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topovlm.tasks.public.items import Item
from topovlm.tasks.public.mathvista import mathvista_rule
from topovlm.tasks.public.rules import RULES
from topovlm.tasks.public.strict import strict


def item(*options: str, answer: str = "B", **fields: object) -> Item:
    """A question with these options; `answer` is a letter, or the text where there are none."""
    letters = tuple("ABCDEFGH"[: len(options)])
    right = dict(zip(letters, options, strict=True)).get(answer, answer)
    return Item("q", "?", options, letters, answer, right, "c", "q", fields=fields)


ANIMALS = item("cat", "dog", "hot dog", "a bird")


@pytest.mark.parametrize(
    "text",
    ["B", "b", "(B)", "**B**", "B.", "B. dog", "B\nBecause of the ears.", "The answer is B.",
     "Option B is right.", "dog", "It is a dog.", "The animal in the picture is a dog.",
     "The answer is not A; it is B.", "<answer>B</answer>", "The correct view is (B).", "\\boxed{B}",
     "答案是B"],
)  # fmt: skip
def test_what_is_said_is_read(text: str) -> None:
    """A letter, however it is wrapped, or the one option that is named."""
    assert strict(ANIMALS, text).read == "B"
    assert strict(ANIMALS, text).right


@pytest.mark.parametrize(
    "text",
    ["", " ", "A or B", "(A) is darker than (B)", "It is not (B).",
     "It is not a dog.", "a cat and a dog", "Both of them", "I cannot say.", "E", "F.",
     "dogs", "There is an animal."],
)  # fmt: skip
def test_what_is_not_said_is_not_guessed(text: str) -> None:
    """Two options, a denial, another letter, a word that only resembles one."""
    assert strict(ANIMALS, text).read is None


def test_the_longer_option_is_not_the_shorter_one() -> None:
    """ "hot dog" names C alone, and options that are the same words name none."""
    assert strict(ANIMALS, "I see a hot dog on a plate").read == "C"
    assert strict(item("dog", "dog", "cat"), "It is a dog").read is None


def test_yes_and_no_are_options() -> None:
    """A "no" that is an option denies nothing."""
    assert strict(item("yes", "no"), "No, there is none.").read in (None, "B")
    assert strict(item("yes", "no"), "no").read == "B"
    assert strict(item("yes", "no"), "Yes.").read == "A"


def test_open_answers_are_compared_as_numbers_or_words() -> None:
    """One number that is stated; words without what leads to them; any of several references."""
    assert strict(item(answer="14", answer_type="integer"), "The number is 14.").right
    assert not strict(item(answer="14", answer_type="integer"), "14 or 15").right
    assert strict(item(answer="1.5", answer_type="float", precision=1.0), "about 1.5 metres").right
    assert strict(item(answer="cat", question_type="open"), "It is the cat.").right
    assert not strict(item(answer="cat", question_type="open"), "concatenate").right
    assert strict(item(answer="['24/7', '3.429']", question_type="open"), "3.429").right
    assert strict(item(answer="[2007, 2008]", answer_type="list"), "It is [2007, 2008].").right
    assert strict(item(answer="2000"), "2,050").right  # ChartQA: within 5 %
    assert not strict(item(answer="2000"), "2,150").right


@pytest.mark.parametrize(
    ("fields", "answer", "text", "right"),
    [
        ({"answer_type": "integer"}, "14", "So the missing number is 14.", True),
        ({"answer_type": "integer"}, "14", "14 of 20", False),
        ({"answer_type": "integer"}, "1250", "1,250 $", True),
        ({"answer_type": "float", "precision": 1.0}, "0.6", "0.6", True),
        ({"answer_type": "float", "precision": 2.0}, "1.45", "Luca needs $1.45", True),
        ({"answer_type": "float", "precision": 1.0}, "0.6", "0.65", False),
        ({"answer_type": "integer"}, "2008", "2007-2008", True),
        ({"answer_type": "integer"}, "14", "I cannot say", False),
        ({"answer_type": "list"}, "[2007, 2008]", "between 2007 and 2008", False),
    ],
)
def test_mathvista_takes_the_last_number(
    fields: dict[str, object], answer: str, text: str, right: bool
) -> None:
    """Rounded as the question wants it; a list only as a list."""
    assert mathvista_rule(item(answer=answer, **fields), text).right is right


def test_mathvista_takes_letters_and_choices_but_no_resemblance() -> None:
    """An empty answer is not the shortest choice, as it is in lmms-eval without a judge."""
    assert mathvista_rule(ANIMALS, "B").right
    assert mathvista_rule(ANIMALS, "(B) dog").right
    assert mathvista_rule(ANIMALS, "dog").right
    assert mathvista_rule(ANIMALS, "The animal in the picture is a dog.").right
    assert mathvista_rule(ANIMALS, "a cat and a dog").read is None
    assert mathvista_rule(ANIMALS, "").read is None
    assert mathvista_rule(ANIMALS, "dogs").read is None
    letters = item("B", "A", "C", answer="A")  # choices that are letters: what is said is the place
    assert mathvista_rule(letters, "A").read == "B"


OPTIONS = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=8)
TEXTS = st.text(max_size=60) | st.text("ABCDE().:, \n", max_size=20)


@pytest.mark.parametrize("rule", [*RULES, "strict"])
@settings(max_examples=60, deadline=None)
@given(
    text=TEXTS,
    options=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=8),
    place=st.integers(0, 7),
)
def test_any_text_has_a_reading(rule: str, text: str, options: list[str], place: int) -> None:
    """No text breaks a rule; what is unread is wrong; scoring twice gives the same."""
    asked = item(*options, answer="ABCDEFGH"[place % len(options)], question_type="multiple-choice")
    read = strict if rule == "strict" else RULES[rule]
    first = read(asked, text)
    assert first == read(asked, text)
    assert not (first.read is None and first.right)
    assert first.scored.score == float(first.right)
