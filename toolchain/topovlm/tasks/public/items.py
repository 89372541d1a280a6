"""From a row of a dataset to an item that can be asked and scored; what cannot be is refused by name."""

from __future__ import annotations

import ast
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.plain_files import Stored
from topovlm.tasks.public.record import Benchmark

_MOST_LISTED = 100_000  # characters
PASS = 1_000_000  # pass k of question i of a circular benchmark is row i + k * PASS

# MMMU: subject -> discipline (Yue et al. 2024, arXiv 2311.16502, table 7).
_DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine "
    "Pharmacy Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics "
    "Energy_and_Power Materials Mechanical_Engineering",
}
_DISCIPLINE_OF = {subject: name for name, many in _DISCIPLINES.items() for subject in many.split()}


@dataclass(frozen=True)
class Item:
    """One question. `answer`: the letter of the right option, or the text where there are no options.

    `right_text`: the right option's text, or the same. `fields`: what else the prompt or the rule looks at.
    `clip`: path below the dataset's folder, without its suffix where that varies.
    """

    id: str
    question: str
    options: tuple[str, ...]
    letters: tuple[str, ...]
    answer: str
    right_text: str
    category: str
    cluster: str
    pictures: tuple[Stored | Path, ...] = ()
    clip: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chance(self) -> float:
        """Expected score of a guess."""
        return 1 / len(self.options) if self.options else 0.0

    @property
    def by_letter(self) -> dict[str, str]:
        return dict(zip(self.letters, self.options, strict=True))


def item_of(record: Benchmark, row: Mapping[str, Any], config: str, number: int) -> Item:
    """Row `number` (from 0) of a part. Raises `InputError` naming the column that is wrong."""
    question = _text(row, record.question)
    letters, options = _options(record, row)
    answer, right = _answer(record, row, letters, options)
    ident = str(_value(row, record.ident)) if record.ident else f"{number:05d}"
    if len(record.configs) > 1 and not record.ident:
        ident = f"{config}-{ident}"
    fields = {name: row.get(name) for name in record.more}
    pictures = _pictures(record, row, question, options)
    item = Item(
        id=f"{record.name}-{ident}",
        question=question,
        options=options,
        letters=letters,
        answer=answer,
        right_text=right,
        category=_category(record, row, config) or record.name,
        cluster="",
        pictures=pictures,
        clip=_clip(record, row, config),
        fields=fields,
    )
    return _clustered(item, record, row)


def number_of(value: object) -> float | None:
    """A finite number that a cell holds, in digits or as such; None for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _value(row: Mapping[str, Any], column: str) -> Any:
    value: Any = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        raise InputError(explain(column, None, "is missing"))
    return value


def _text(row: Mapping[str, Any], column: str) -> str:
    value = _value(row, column)
    if not isinstance(value, str):
        raise InputError(explain(column, value, f"must be a string, this is a {type(value).__name__}"))
    if not value.strip():
        raise InputError(explain(column, value, "is empty"))
    return value


def _options(record: Benchmark, row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(letters, texts). Both are empty for an open question."""
    if record.options_form == "none":
        return (), ()
    if record.options_form == "columns":
        letters, texts = _in_columns(record, row)
    else:
        texts = tuple(map(str, listed(row.get(record.options[0]), record.options[0])))
        letters = ()
    if len(texts) == 1:
        raise InputError(
            explain(record.options[0], texts[0], "is the only option: there is nothing to choose")
        )
    if len(texts) > len(string.ascii_uppercase):
        rule = "is the number of options; letters name at most 26"
        raise InputError(explain(record.options[0], len(texts), rule))
    if not texts and record.answer_form not in ("letter or text", "option or text"):
        raise InputError(explain(record.options[0], None, "is missing: the question has no options"))
    return letters or tuple(map(_letter, range(len(texts)))), texts


def _in_columns(record: Benchmark, row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns named by their letters may be empty; the others are all options, in their order."""
    if all(column in string.ascii_uppercase for column in record.options):
        found = {column: row.get(column) for column in record.options}
        kept = {c: str(v) for c, v in found.items() if v is not None and str(v) not in ("", "nan")}
        return tuple(kept), tuple(kept.values())
    return (), tuple(str(_value(row, column)) for column in record.options)


def _letter(number: int) -> str:
    return string.ascii_uppercase[number]


def listed(value: object, column: str) -> Sequence[Any]:
    """A list, also one that is written as text; none for nothing. Raises `InputError` for anything else."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        if len(value) > _MOST_LISTED:
            raise InputError(explain(column, len(value), "is the length of a list written as text, too long"))
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise InputError(explain(column, value, "is no list")) from None
    if not isinstance(value, (list, tuple)):
        raise InputError(explain(column, value, f"must be a list, this is a {type(value).__name__}"))
    return value


def _answer(
    record: Benchmark, row: Mapping[str, Any], letters: Sequence[str], options: Sequence[str]
) -> tuple[str, str]:
    """(letter, text) of the right option, or the text twice."""
    column, form = record.answer, record.answer_form
    value = _value(row, column)
    # ChartQA's first home keeps a list of one.
    shown = str(value[0]) if isinstance(value, (list, tuple)) and len(value) == 1 else str(value)
    if not options:
        if not shown.strip():
            raise InputError(explain(column, shown, "is empty"))
        return shown, shown
    by_letter = dict(zip(letters, options, strict=True))
    if form == "index":
        number = number_of(shown)
        letter = letters[int(number)] if number is not None and number in range(len(options)) else ""
    elif form in ("option", "option or text"):
        letter = letters[options.index(shown)] if shown in options else ""
    else:
        letter = shown.strip("()") if form == "letter in brackets" else shown
    if letter not in by_letter:
        rule = f"is none of the {len(options)} options"
        raise InputError(explain(column, shown, rule, "Answers of a hidden split are not published"))
    return letter, by_letter[letter]


def _pictures(
    record: Benchmark, row: Mapping[str, Any], question: str, options: Sequence[str]
) -> tuple[Stored | Path, ...]:
    columns = record.pictures
    if record.named_pictures:
        text = "\n".join((question, *options))
        named = {f"image_{number}" for number in re.findall(r"<image (\d+)>", text)}
        unknown = sorted(named - set(columns))
        if unknown:
            raise InputError(explain(record.question, unknown[0], "names a picture that no column holds"))
        columns = tuple(column for column in columns if column in named)
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise InputError(explain(missing[0], None, "is missing, and the question names it"))
    found = [row[column] for column in columns if row.get(column) is not None]
    if columns and not found:
        raise InputError(explain(columns[0], None, "is missing: the question has no picture"))
    return tuple(found)


def _clip(record: Benchmark, row: Mapping[str, Any], config: str) -> str:
    if record.videos is None:
        return ""
    folder = dict(record.videos.by_config).get(config, "")
    name = str(_value(row, record.videos.column))
    if not name or name.startswith("/") or ".." in Path(name).parts:
        raise InputError(explain(record.videos.column, name, "is no name of a clip"))
    return f"{folder}/{name}" if folder else name


def _category(record: Benchmark, row: Mapping[str, Any], config: str) -> str:
    if record.category == "config":
        return config
    if record.category == "subject":
        found = re.fullmatch(r"[^_]+_(.+?)_\d+", str(_value(row, record.ident)))
        if found is None:
            rule = "must be SPLIT_SUBJECT_NUMBER"
            raise InputError(explain(record.ident, row.get(record.ident), rule))
        return _DISCIPLINE_OF.get(found[1], found[1])
    return str(_value(row, record.category)) if record.category else ""


def _clustered(item: Item, record: Benchmark, row: Mapping[str, Any]) -> Item:
    if record.cluster == "row":
        return replace(item, cluster=item.id)
    if record.cluster == "pictures":
        names = (p.sha256 if isinstance(p, Stored) else str(p) for p in item.pictures)
        return replace(item, cluster="|".join(names))
    if record.circular:
        index = number_of(_value(row, record.cluster))
        if index is None or index < 0 or index != int(index):
            raise InputError(explain(record.cluster, row.get(record.cluster), "must be a whole number"))
        return replace(item, id=f"{record.name}-{int(index)}", cluster=str(int(index) % PASS))
    return replace(item, cluster=item.clip if record.videos else str(_value(row, record.cluster)))
