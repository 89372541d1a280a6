"""The same question in other words: what a question of a maker may be asked as.

Four lettered options become four words to choose from, and the answer one of them: to answer with a letter, a
decoder of this size would have to be taught for much longer.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from topovlm.reference.scenes import LETTERS, Question

# Pattern of a question -> what it may be asked as besides; groups are put in.
_OTHERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"What colour is the (\w+)\?", ("Which colour does the {0} have?", "Name the colour of the {0}.")),
    (
        r"What shape is the (\w+) object\?",
        ("Which shape does the {0} object have?", "Name the shape of the {0} object."),
    ),
    (
        r"What colour is the object at the (.+)\?",
        ("Which colour is at the {0}?", "Name the colour of the object at the {0}."),
    ),
    (r"What shape is at the (.+)\?", ("Which shape can be seen at the {0}?", "Name the shape at the {0}.")),
    (r"Where is the (.+)\?", ("In which place is the {0}?", "Where can the {0} be found?")),
    (r"How many objects are there\?", ("Count the objects.", "What is the number of objects?")),
    (r"How many (.+) are there\?", ("Count the {0}.", "How many {0} can you see?")),
    (r"Describe the picture\.", ("What is in the picture?", "List what the picture shows.")),
    (r"What is the value of (.+)\?", ("How high is {0}?", "Which value does {0} have?")),
    (
        r"What is the value at (.+)\?",
        ("How high is the line at {0}?", "Which value does the line have at {0}?"),
    ),
    (r"Which (bar|point) is the (\w+)\?", ("Which {0} of the chart is {1}?", "Name the {1} {0}.")),
    (r"At which point is the line (\w+)\?", ("Where is the line {0}?", "Which point is the {0} one?")),
    (r"Which letter marks the (.+)\?", ("Which letter is on the {0}?", "Name the letter of the {0}.")),
    (r"What (colour|shape) is part (\w)\?", ("Which {0} does part {1} have?", "Name the {0} of part {1}.")),
    (r"Which part does (\w) point to\?", ("Where does the arrow of {0} lead?", "What comes after {0}?")),
    (r"What is the (\w+) digit\?", ("Which digit is the {0} one?", "Read the {0} digit.")),
    (r"Which number is written\?", ("Read the number.", "What number do you see?")),
    (r"What is the result\?", ("Solve it.", "What does it make?")),
    (
        r"What kind of thing is shown\?",
        ("What kind of thing is this?", "Name the kind of thing in the picture."),
    ),
    (r"Which word is written\?", ("Read the word.", "What word do you see?")),
    (
        r"What is the (\w+) letter of the word\?",
        ("Which letter of the word is the {0} one?", "Name the {0} letter."),
    ),
    (
        r"What colour is the flag (.+)\?",
        ("Which colour does the flag have {0}?", "Name the colour {0} of the flag."),
    ),
    (r"What is the main colour of the flag\?", ("Which colour covers most of the flag?",)),
    (r"Which emoji is different\?", ("Where is the odd one out?",)),
    (r"Which way is the motion\?", ("Which way does it move?",)),
    (r"Which shape comes (\w+)\?", ("Name the shape that comes {0}.",)),
)
_COMPILED = tuple((re.compile(pattern), others) for pattern, others in _OTHERS)


_LETTERED = re.compile(r"(.+)\? A\. (.+) B\. (.+) C\. (.+) D\. (.+)")


def asked_as(question: Question, rng: np.random.Generator) -> Question:
    """The question as this model is asked it."""
    found = _LETTERED.fullmatch(question.prompt)
    if not found:
        return replace(question, prompt=reworded(question.prompt, rng))
    stem, *options = found.groups()
    stem = reworded(f"{stem}?", rng)
    listed = f"{', '.join(options[:3])} or {options[3]}"
    prompt = (
        f"{stem} Choose: {listed}." if rng.random() < 0.5 or stem[-1] != "?" else f"{stem[:-1]}: {listed}?"
    )
    answer = options[LETTERS.index(question.answer)]
    return Question(question.category, prompt, answer, "exact", question.chance)


def reworded(prompt: str, rng: np.random.Generator) -> str:
    """The question, as it is (half of the time) or in other words."""
    for pattern, others in _COMPILED:
        found = pattern.fullmatch(prompt)
        if found:
            if rng.random() < 0.5:
                return prompt
            return others[int(rng.integers(len(others)))].format(*found.groups())
    return prompt
