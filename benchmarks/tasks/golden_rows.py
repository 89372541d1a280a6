"""Rows and answers that the golden vectors are made of: each benchmark's columns, every form an answer takes.

Rows are ours; a picture's or a video's cell holds its name.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]

_NAMES = ["cat", "dog", "hot dog", "a bird"]
_LONG = ["the left wing", "the right wing", "both of the wings", "neither wing of the plane"]


def _ai2d(question: str, options: list[str], answer: int) -> Row:
    return {"question": question, "options": options, "answer": str(answer), "image": "a.png"}


def _mathvista(question: str, answer: str, kind: str, **more: Any) -> Row:
    multi = "choices" in more
    row = {"pid": "1", "question": question, "answer": answer, "answer_type": kind, "choices": None,
           "question_type": "multi_choice" if multi else "free_form", "unit": None, "precision": None,
           "query": question, "decoded_image": "a.png", "image": "images/1.jpg",
           "metadata": {"task": "figure question answering", "split": "testmini"}}  # fmt: skip
    return {**row, **more}


def mmmu_row(number: int, question: str, options: list[str], answer: str) -> Row:
    kind = "multiple-choice" if options else "open"
    return {"id": f"validation_Accounting_{number}", "question": question, "options": str(options),
            "answer": answer, "question_type": kind, "image_1": "a.png", "image_2": "b.png"}  # fmt: skip


def blink_row(number: int, question: str, choices: list[str], answer: str, pictures: int = 1) -> Row:
    listed = "".join(f"\n({letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=False))
    row: Row = {f"image_{k}": "a.png" if k <= pictures else None for k in range(1, 5)}
    prompt = f"{question}\nSelect from the following choices.{listed}"
    return {**row, "idx": f"val_Counting_{number}", "question": question, "sub_task": "Counting",
            "choices": choices, "answer": answer, "prompt": prompt}  # fmt: skip


def _mmbench(index: int, question: str, options: list[str], answer: str, hint: str | None = None) -> Row:
    cells = dict(zip("ABCD", [*options, "nan", "nan", "nan"], strict=False))
    return {"index": index, "question": question, "hint": hint, "answer": answer, **cells, "category": "x",
            "L2-category": "coarse_perception", "source": "y", "split": "dev", "comment": "nan",
            "image": "a.png"}  # fmt: skip


def _egoschema(question: str, options: list[str], answer: int) -> Row:
    listed = [f"{letter}. {text}" for letter, text in zip("ABCDE", options, strict=True)]
    return {"question_idx": "7", "question": question, "video_idx": "0a1b", "option": listed,
            "answer": str(answer)}  # fmt: skip


def _mvbench(question: str, candidates: list[str], answer: str) -> Row:
    return {"video": "1.mp4", "question": question, "candidates": candidates, "answer": answer}


def _nextqa(question: str, options: list[str], answer: int) -> Row:
    cells = {f"a{k}": text for k, text in enumerate(options)}
    return {"video": "4010069381", "frame_count": 369, "width": 640, "height": 480, "question": question,
            "answer": answer, "qid": 6, "type": "CH", **cells}  # fmt: skip


def _videomme(question: str, options: list[str], answer: str) -> Row:
    listed = [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True)]
    return {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Astronomy",
            "url": "", "videoID": "abc", "question_id": "001-1", "task_type": "Counting Problem",
            "question": question, "options": listed, "answer": answer}  # fmt: skip


_EGO = [
    "C runs along the river.", "C cooks a meal for the family.", "C repairs the bicycle.",
    "The woman plays the piano.", "Nothing happens at all.",
]  # fmt: skip
_NEXT = ["put it down", "dance ", "to look at the camera", "cry", "laugh at him"]

ROWS: dict[str, list[Row]] = {
    "ai2d": [
        _ai2d("What animal is it?", _NAMES, 1),
        _ai2d("Which wing is marked A?", _LONG, 0),
        _ai2d("Is it?", ["yes", "no", "unknown"], 2),
    ],
    "mathvista": [
        _mathvista("Which is larger?", "dog", "text", choices=_NAMES),
        _mathvista("Which line?", "B", "text", choices=["A", "B", "C"]),
        _mathvista("Is it so?", "No", "text", choices=["Yes", "No"]),
        _mathvista("How many?", "14", "integer", unit="$"),
        _mathvista("How far?", "1.5", "float", precision=1.0),
        _mathvista("What share?", "0.25", "float", precision=2.0),
        _mathvista("Between which years?", "[2007, 2008]", "list"),
    ],
    "chartqa": [
        {"type": "human_test", "question": "What is the value?", "answer": "10", "image": "a.png"},
        {"type": "human_test", "question": "Is it larger?", "answer": "Yes", "image": "a.png"},
        {"type": "augmented_test", "question": "What share?", "answer": "5%", "image": "a.png"},
        {"type": "augmented_test", "question": "What is left?", "answer": "0", "image": "a.png"},
        {"type": "augmented_test", "question": "Which year?", "answer": "2017", "image": "a.png"},
        {"type": "augmented_test", "question": "Which country?", "answer": "Côte d'Ivoire", "image": "a.png"},
    ],
    "mmmu": [
        mmmu_row(1, "See <image 1>. What is it?", _NAMES, "B"),
        mmmu_row(2, "<image 1> Which wing?", ["<image 2>", *_LONG], "A"),
        mmmu_row(3, "<image 1> How much?", [], "1,250.5"),
        mmmu_row(4, "<image 1> What is the name?", [], "cat"),
        mmmu_row(5, "<image 1> Which point?", [], "B"),
        mmmu_row(6, "<image 1> When?", [], "['24/7', '3.429']"),
        mmmu_row(7, "<image 1> Many:", [f"option {letter}{letter}" for letter in "ABCDEFGHI"], "H"),
    ],
    "blink": [
        blink_row(1, "How many?", ["3", "2", "0", "1"], "(B)"),
        blink_row(2, "Which is alike?", ["the second image", "the third image"], "(A)", 3),
        blink_row(3, "Where?", ["left", "right", "above"], "(C)", 2),
    ],
    "mmbench": [
        _mmbench(5, "What is it?", _NAMES, "B"),
        _mmbench(6, "Which?", ["banana", "an apple"], "A", "It is yellow."),
        _mmbench(1_000_005, "What is it?", ["a bird", "cat", "dog", "hot dog"], "C", "nan"),
        _mmbench(7, "Which wing?", _LONG[:3], "C", ""),
    ],
    "egoschema": [_egoschema("What does C do?", _EGO, 1), _egoschema("Why?", _EGO, 3)],
    "mvbench": [
        _mvbench("What happens?", ["opens a door", "dog", "closes it"], "dog"),
        _mvbench("Which way?", ["Up", "Down", "Left", "Right", "None"], "Right"),
        _mvbench("Is it there?", ["yes", "no"], "yes"),
    ],
    "nextqa": [_nextqa(" why did he sit ", _NEXT, 1), _nextqa("what next", _NEXT, 4)],
    "videomme": [
        _videomme("What is it?", _NAMES, "B"),
        _videomme("Which wing?", [f"{text}." for text in _LONG], "D"),
    ],
}  # fmt: skip

# {X}: the right letter, {W}: a wrong one, {x}: the right one in lower case;
# {T}: the right text, {O}: a wrong one.
FORMS = (
    "{X}", "{x}", "{X}.", "({X})", "({x})", "{X})", "{X}:", "{X},", "{X}. {T}", "{X}: {T}", "{X}) {T}",
    "({X}) {T}", "{X} {T}", "{X}\n{T}", "{X}\nBecause it is so.", " {X}", "{X} ", "\n{X}\n", "**{X}**",
    "[{X}]", "'{X}'", '"{X}"', "{X}!", "{X}?", "<answer>{X}</answer>", "\\boxed{{{X}}}", "Answer: {X}",
    "Answer:{X}.", "answer is {x}", "The answer is {X}", "The answer is {X}.", "The answer is ({X}).",
    "The correct answer is: {X}. {T}", "The best option is {X}, because {T} is visible.", "Option {X}",
    "Option {X} is right.", "I think {X}", "I think it is {X}.", "I choose {X}", "My choice is {X}",
    "So I pick ({X})", "It must be {X}, not {W}.", "{W} or {X}", "{X} or {W}", "{X}, {W}",
    "({W}) or ({X})", "Not {W}. {X}", "{W}. No, {X}.", "{X}{W}", "{W}{X}", "{W}", "({W})",
    "The answer is {W}", "{W}. {O}", "{T}", "{T}.", "It is {T}.", "{O}", "It is {O}.",
    "The picture shows {T}, as far as I can tell.", "I would say that {O} is what can be seen here.",
    "There are {T} and {O} in this picture, and more.", "{T} {T} {T} {T} {T} {T}", "Both", "Both of them",
    "None", "All of the above", "I cannot say.", "A", "A dog", "A dog is in the picture.",
    "a man goes right", "Because", "E", "F", "Z", "", " ", "\n", ".", "...", "?", "答案是{X}",
    "正确答案为 {X}。", "정답은 {X}", "{X}。", "（{X}）", "I", "The person C runs.", "C runs", "C",
    "banana", "nan", "The options are A, B, C and D.", "A B C D", "(A) (B) (C) (D)", "A. one B. two",
    "Answer: B. Explanation: C was wrong", "x" * 300, "B" * 20, "é", "\u2028",
)  # fmt: skip

# {N}: the right answer as it is written, for questions without options.
OPEN_FORMS = (
    "{N}", "{N}.", " {N} ", "{N}\n", "The answer is {N}", "The answer is {N}.",
    "The value is {N}, I think", "It could be {N}", "so {N}", "x = {N}", "result {N}\nfinal answer is {N}",
    "{N} or 3", "$ {N}", "${N}", "{N} %", "{N}%", "about {N} million", "", " ", "no", "NO", "yes", "Yes.",
    "1", "10", "10.0", "10.4", "10.5", "10.6", "9.5", "9.49", "1e1", "1,0", "ten", "0.05", "5", "5%",
    "5.2%", "0", "0.0", "-0", "2018", "2017.0", "1250.5", "1,250.5", "1250.50", "1250.504", "concatenate",
    "the cat sat", "Cat", "a b c", " b", "B", "24/7", "3.429", "[2007, 2008]", "14", "14.0", "14.7", "1_4",
    "+14", "0.25", "0.250", "0.249", "1.5", "1.50", "1.54", "inf", "nan", "-inf", "1e400", "is", "so ",
    "is .", "answer ", "the thing is\nit is 14", "côte d'ivoire", "Cote d'Ivoire", "{{N}}", "%",
)  # fmt: skip


# What a form says where its first placeholder is not all of it: none of the options, or several, or another.
_SAID: dict[str, str | None] = {
    "It must be {X}, not {W}.": "{X}", "{W} or {X}": None, "{X} or {W}": None, "{X}, {W}": None,
    "({W}) or ({X})": None, "Not {W}. {X}": "{X}", "{W}. No, {X}.": "{X}", "{X}{W}": None, "{W}{X}": None,
    "There are {T} and {O} in this picture, and more.": None, "A": "A", "E": "E", "F": "F", "C": "C",
    "Answer: B. Explanation: C was wrong": "B", "{N} or 3": None, "about {N} million": None, "5%": "5",
    "5.2%": "5.2", "1,250.5": "1250.5", "[2007, 2008]": "[2007, 2008]", "the thing is\nit is 14": "14",
}  # fmt: skip


def said_by(form: str) -> str | None:
    """The placeholder, letter or number that a form states; None where it states none, or several."""
    if form in _SAID:
        return _SAID[form]
    for placeholder in ("{X}", "{x}", "{W}", "{T}", "{O}", "{N}"):
        if placeholder in form:
            return placeholder.replace("x", "X")
    try:
        return form.strip() if math.isfinite(float(form)) else None
    except ValueError:
        return None


def answers_of(task: str, row: Row) -> list[str]:
    """Every form, filled in for a row; open forms where it has no options."""
    return list(said_of(task, row))


def said_of(task: str, row: Row) -> dict[str, str | None]:
    """Every form, filled in for a row -> what it states, as one who reads it would put it."""
    options, right = _options_of(task, row)
    found: dict[str, str | None] = {}
    if not options:
        for form in OPEN_FORMS:
            said = said_by(form)
            text = form.replace("{{N}}", "{N}").replace("{N}", right)
            found.setdefault(text, None if said is None else said.replace("{N}", right))
        return found
    letters = "ABCDEFGHIJ"[: len(options)]
    place = options.index(right)
    other = (place + 1) % len(options)
    filled = {
        "X": letters[place],
        "x": letters[place].lower(),
        "W": letters[other],
        "T": options[place],
        "O": options[other],
    }
    for form in FORMS:
        said = said_by(form)
        put = None if said is None else said.format(**filled)
        # A letter that no option has states none: a judge's answer is replaced by the nearest in spelling.
        found.setdefault(form.format(**filled), put if put in (*letters, *options) else None)
    return found


def _options_of(task: str, row: Row) -> tuple[list[str], str]:
    """(texts of the options, the right one) or ([], answer)."""
    answer = row["answer"]
    lists: dict[str, Callable[[], list[str]]] = {
        "ai2d": lambda: row["options"],
        "mathvista": lambda: row["choices"] or [],
        "mmmu": lambda: list(ast.literal_eval(row["options"])),
        "blink": lambda: row["choices"],
        "mmbench": lambda: [row[letter] for letter in "ABCD" if row[letter] != "nan"],
        "egoschema": lambda: [text[3:] for text in row["option"]],
        "mvbench": lambda: row["candidates"],
        "nextqa": lambda: [row[f"a{k}"] for k in range(5)],
        "videomme": lambda: [text[3:] for text in row["options"]],
    }
    options = lists[task]() if task in lists else []
    if not options or task in ("mathvista", "mvbench"):
        return options, answer
    place = int(answer) if str(answer).isdigit() else "ABCDEFGHI".index(answer.strip("()"))
    return options, options[place]
